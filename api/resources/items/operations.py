"""Calls on items, for the document."""

from http import HTTPMethod

from api.http.schemas import ReasonBody
from api.openapi import examples, shapes
from api.openapi.answers import UNKNOWN, WRITTEN, page, state, write
from api.openapi.model import JSON, Answer, Operation, Operations
from api.openapi.parameters import HISTORY, IF_NONE_MATCH, PAGE, PAST, PATH
from api.resources.items.schemas import ItemAnswer, ItemBody, NonFungibleAnswer
from api.resources.reservations.schemas import ReserveBody
from ledger.catalogue.errors import OtherKindError
from ledger.errors import PreconditionFailedError
from ledger.items.errors import ItemHeldError, ItemSoldError, UnknownItemError
from ledger.reservations.errors import ReservationEndedError, ReservationIdTakenError

HELD = (UnknownItemError, OtherKindError)

ITEMS = "Non-fungible items"
SKU, ITEM = (PATH["sku"],), (PATH["sku"], PATH["sn"])


def item(text: str) -> Answer:
    return Answer(text=text, content={JSON: ItemAnswer}, headers=WRITTEN, example=examples.BIKE)


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
