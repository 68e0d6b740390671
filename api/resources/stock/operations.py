"""Calls on fungible products, for the document."""

from typing import Any

from api.http.schemas import ReasonBody
from api.openapi import examples, shapes
from api.openapi.answers import UNKNOWN, WRITTEN, page, state, write
from api.openapi.model import JSON, Answer, Operation, Operations
from api.openapi.parameters import HISTORY, IF_NONE_MATCH, PAGE, PAST, PATH, WRITE
from api.resources.reservations.schemas import ReserveBody
from api.resources.stock.schemas import FungibleAnswer, FungibleBody
from ledger.catalogue.errors import OtherKindError
from ledger.errors import PreconditionFailedError
from ledger.reservations.errors import ReservationIdTakenError
from ledger.stock.errors import InsufficientStockError, StockLimitError

FUNGIBLE = "Fungible products"
SKU, MOVED = (PATH["sku"],), (PATH["sku"], PATH["quantity"])


def product(text: str, example: Any = examples.PENCIL) -> Answer:
    return Answer(text=text, content={JSON: FungibleAnswer}, headers=WRITTEN, example=example)


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
