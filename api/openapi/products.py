"""Calls on fungible products and non-fungible items."""

from http import HTTPMethod
from typing import Any

from api.openapi import examples, shapes
from api.openapi.model import JSON, Answer, Operation, Operations, Parameter
from api.openapi.parameters import CONDITIONAL, HISTORY, IF_NONE_MATCH, PAGE, PAST, PATH, WRITE
from api.schemas import FungibleAnswer, FungibleBody, ItemAnswer, ItemBody, NonFungibleAnswer, ReasonBody, ReserveBody
from ledger.catalogue.errors import OtherKindError, UnknownProductError
from ledger.errors import PreconditionFailedError
from ledger.items.errors import ItemHeldError, ItemSoldError, UnknownItemError
from ledger.reservations.errors import ReservationEndedError, ReservationIdTakenError
from ledger.stock.errors import InsufficientStockError, StockLimitError

FUNGIBLE, ITEMS = "Fungible products", "Non-fungible items"
SKU, ITEM = (PATH["sku"],), (PATH["sku"], PATH["sn"])
MOVED = (PATH["sku"], PATH["quantity"])
WRITTEN = ("Ledger-Position", "ETag", "Idempotent-Replayed")
HELD = (UnknownItemError, OtherKindError)
# Every path below takes what is not its kind for the other family's.
UNKNOWN = (UnknownProductError, OtherKindError)


def product(text: str, example: Any = examples.PENCIL) -> Answer:
    return Answer(text=text, content={JSON: FungibleAnswer}, headers=WRITTEN, example=example)


def item(text: str) -> Answer:
    return Answer(text=text, content={JSON: ItemAnswer}, headers=WRITTEN, example=examples.BIKE)


def state(shape: Any, example: Any) -> dict[int, Answer]:
    """What a GET of one thing answers; of a past state there is the Cache-Control too."""
    headers = ("Ledger-Position", "ETag", "Cache-Control")
    found = Answer(text="As it is, or was.", content={JSON: shape}, headers=headers, example=example)
    return {200: found, 304: Answer(text="It still has that version.", headers=headers)}


def page(shape: Any) -> dict[int, Answer]:
    return {200: Answer(text="A page.", content={JSON: shapes.Page(shape)}, headers=("Ledger-Position",))}


def write(*path: Parameter) -> tuple[Parameter, ...]:
    return (*path, *CONDITIONAL)


FUNGIBLES: Operations = {
    ("GET", "/api/fungible"): Operation(
        id="listFungible",
        tag=FUNGIBLE,
        summary="All fungible products, by SKU",
        parameters=PAGE,
        answers=page(FungibleAnswer),
    ),
    ("POST", "/api/fungible"): Operation(
        id="createFungible",
        tag=FUNGIBLE,
        summary="A new product with a generated SKU",
        parameters=WRITE,
        body=FungibleBody,
        body_example=examples.PUT_PENCIL,
        answers={
            200: Answer(
                text="The product.",
                content={JSON: FungibleAnswer},
                headers=(*WRITTEN, "Location"),
                example=examples.PENCIL,
            )
        },
        refusals=(PreconditionFailedError,),
        links=("getFungible", "putFungible", "historyOfFungible"),
        link_by=("sku", "sku"),
    ),
    ("GET", "/api/fungible/{sku}"): Operation(
        id="getFungible",
        tag=FUNGIBLE,
        summary="A product, now or in the past",
        parameters=(*SKU, *PAST, IF_NONE_MATCH),
        answers=state(FungibleAnswer, examples.PENCIL),
        refusals=UNKNOWN,
    ),
    ("PUT", "/api/fungible/{sku}"): Operation(
        id="putFungible",
        tag=FUNGIBLE,
        summary="Add a product, or update the members that are given",
        text="`amount_in_stock` sets the level: the difference is recorded as stock that was added or removed.",
        parameters=write(*SKU),
        body=FungibleBody,
        body_example=examples.PUT_PENCIL,
        answers={200: product("The product.")},
        refusals=(
            OtherKindError,
            InsufficientStockError,
            StockLimitError,
            PreconditionFailedError,
        ),
    ),
    ("POST", "/api/fungible/{sku}/add/{quantity}"): Operation(
        id="addStock",
        tag=FUNGIBLE,
        summary="Stock comes",
        parameters=write(*MOVED),
        body=ReasonBody,
        body_example=examples.REASON,
        answers={200: product("The product.")},
        refusals=(*UNKNOWN, StockLimitError, PreconditionFailedError),
    ),
    ("POST", "/api/fungible/{sku}/remove/{quantity}"): Operation(
        id="removeStock",
        tag=FUNGIBLE,
        summary="Stock goes; what is reserved cannot",
        parameters=write(*MOVED),
        body=ReasonBody,
        body_example=examples.REASON,
        answers={200: product("The product.")},
        refusals=(*UNKNOWN, InsufficientStockError, PreconditionFailedError),
    ),
    ("POST", "/api/fungible/{sku}/reserve/{quantity}"): Operation(
        id="reserveStock",
        tag=FUNGIBLE,
        summary="Hold stock for a while",
        parameters=write(*MOVED),
        body=ReserveBody,
        body_example={"owner": "ann", "ttl_seconds": 900},
        answers={200: product("The product, with the new reservation.", examples.RESERVED_PENCIL)},
        refusals=(
            *UNKNOWN,
            InsufficientStockError,
            ReservationIdTakenError,
            PreconditionFailedError,
        ),
    ),
    ("GET", "/api/fungible/{sku}/history"): Operation(
        id="historyOfFungible",
        tag=FUNGIBLE,
        summary="The account statement: every event with the balance after it",
        parameters=(*SKU, *HISTORY),
        answers=page(shapes.STATEMENT),
        refusals=UNKNOWN,
    ),
}

NON_FUNGIBLES: Operations = {
    ("GET", "/api/non-fungible"): Operation(
        id="listNonFungible",
        tag=ITEMS,
        summary="All non-fungible products with counts of their items, by SKU",
        parameters=PAGE,
        answers=page(NonFungibleAnswer),
    ),
    ("GET", "/api/non-fungible/{sku}"): Operation(
        id="listItems",
        tag=ITEMS,
        summary="A product with counts and a page of its items",
        parameters=(*SKU, *PAGE),
        answers={200: Answer(text="The product.", content={JSON: NonFungibleAnswer}, headers=("Ledger-Position",))},
        refusals=UNKNOWN,
    ),
    ("GET", "/api/non-fungible/{sku}/{sn}"): Operation(
        id="getItem",
        tag=ITEMS,
        summary="An item, now or in the past",
        parameters=(*ITEM, *PAST, IF_NONE_MATCH),
        answers=state(ItemAnswer, examples.BIKE),
        refusals=(*UNKNOWN, UnknownItemError),
    ),
    ("PUT", "/api/non-fungible/{sku}/{sn}"): Operation(
        id="putItem",
        tag=ITEMS,
        summary="Add an item, or update the members that are given",
        text="`sold: true` records a purchase, `false` a return. "
        "`name`, `description` and `shipping_weight_grams` are the product's.",
        parameters=write(*ITEM),
        body=ItemBody,
        body_example=examples.PUT_BIKE,
        answers={200: item("The item.")},
        refusals=(OtherKindError, PreconditionFailedError),
    ),
    ("PUT", "/api/non-fungible/{sku}/{sn}/reservation"): Operation(
        id="reserveItem",
        tag=ITEMS,
        summary="Hold an item for a while; the same reservation_id again extends it",
        parameters=write(*ITEM),
        body=ReserveBody,
        body_example={"owner": "ann", "ttl_seconds": 900},
        answers={200: item("The item; `reserved` says since when.")},
        refusals=(
            *UNKNOWN,
            UnknownItemError,
            ItemHeldError,
            ItemSoldError,
            ReservationEndedError,
            ReservationIdTakenError,
            PreconditionFailedError,
        ),
    ),
    (HTTPMethod.DELETE, "/api/non-fungible/{sku}/{sn}/reservation"): Operation(
        id="releaseItem",
        tag=ITEMS,
        summary="Release an item",
        parameters=write(*ITEM),
        body=ReasonBody,
        body_example=examples.REASON,
        answers={200: item("The item; `reserved` is null.")},
        refusals=(*UNKNOWN, UnknownItemError, ItemSoldError, PreconditionFailedError),
    ),
    ("GET", "/api/non-fungible/{sku}/{sn}/history"): Operation(
        id="historyOfItem",
        tag=ITEMS,
        summary="Every event of an item",
        parameters=(*ITEM, *HISTORY),
        answers=page(shapes.STATEMENT),
        refusals=(*UNKNOWN, UnknownItemError),
    ),
}
