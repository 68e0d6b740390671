"""Calls on reservations, batches, and what follows from a purchase."""

from http import HTTPMethod

from api.http.schemas import ReasonBody
from api.openapi import examples, shapes
from api.openapi.answers import UNKNOWN
from api.openapi.model import JSON, Answer, Operation, Operations
from api.openapi.parameters import AFTER, IF_MATCH, IF_NONE_MATCH, KEY, OF_SKU, OWNER, PAGE, PAST, PATH, STATE, WRITE
from api.resources.reservations.schemas import (
    CartBody,
    ChangeBody,
    ExtendBody,
    LinesBody,
    PurchaseBody,
    ReservationAnswer,
)
from ledger.errors import AheadOfLogError, LedgerError, PreconditionFailedError
from ledger.items.errors import UnknownItemError
from ledger.reservations.errors import (
    NotHeldError,
    ReservationEndedError,
    ReservationIdTakenError,
    UnknownReservationError,
)
from ledger.stock.errors import InsufficientStockError, StockLimitError

TAG = "Reservations"
ID = (PATH["reservation_id"],)
WRITTEN = ("Ledger-Position", "ETag", "Idempotent-Replayed")
OVER = (UnknownReservationError, ReservationEndedError)

RESERVATION = Answer(
    text="The reservation.", content={JSON: ReservationAnswer}, headers=WRITTEN, example=examples.RESERVATION
)


def _page(shape: object) -> dict[int, Answer]:
    return {200: Answer(text="A page.", content={JSON: shapes.Page(shape)}, headers=("Ledger-Position",))}


def _end(id: str, summary: str, body: type, example: object, *refusals: type[LedgerError]) -> Operation:
    return Operation(
        id=id,
        tag=TAG,
        summary=summary,
        parameters=(*ID, KEY, IF_MATCH),
        body=body,
        body_example=example,
        needs_body=issubclass(body, LinesBody),
        answers={200: RESERVATION},
        refusals=(*refusals, PreconditionFailedError),
    )


RESERVATIONS: Operations = {
    ("GET", "/api/reservations"): Operation(
        id="listReservations",
        tag=TAG,
        summary="Reservations in the order in which they were made",
        parameters=(*PAGE, STATE, OWNER, OF_SKU),
        answers=_page(ReservationAnswer),
    ),
    ("POST", "/api/reservations"): Operation(
        id="makeReservation",
        tag=TAG,
        summary="A cart: all lines or none; with `partial`, what there is",
        parameters=WRITE,
        body=CartBody,
        body_example=examples.CART,
        needs_body=True,
        answers={
            201: Answer(
                text="The reservation; `missing` names what a partial one did not get.",
                content={JSON: ReservationAnswer},
                headers=(*WRITTEN, "Location"),
                example=examples.RESERVATION,
            )
        },
        refusals=(
            *UNKNOWN,
            UnknownItemError,
            InsufficientStockError,
            ReservationIdTakenError,
            ReservationEndedError,
        ),
        links=(
            "getReservation",
            "releaseReservation",
            "releaseLines",
            "extendReservation",
            "changeReservation",
            "purchaseReservation",
            "returnPurchase",
        ),
        link_by=("reservation_id", "id"),
    ),
    ("GET", "/api/reservations/{reservation_id}"): Operation(
        id="getReservation",
        tag=TAG,
        summary="A reservation, now or in the past",
        parameters=(*ID, IF_NONE_MATCH, *PAST),
        answers={
            200: Answer(
                text="As it is, or was.",
                content={JSON: ReservationAnswer},
                headers=("Ledger-Position", "ETag", "Cache-Control"),
                example=examples.RESERVATION,
            ),
            304: Answer(text="It is still the same.", headers=("Ledger-Position", "ETag")),
        },
        refusals=(UnknownReservationError,),
        problems=("not-found",),
    ),
    ("PUT", "/api/reservations/{reservation_id}"): _end(
        "changeReservation",
        "Hold exactly these lines: more, less, others; what it holds already is no obstacle",
        ChangeBody,
        examples.LINES,
        *OVER,
        *UNKNOWN,
        UnknownItemError,
        InsufficientStockError,
    ),
    (HTTPMethod.DELETE, "/api/reservations/{reservation_id}"): _end(
        "releaseReservation",
        "Give back all that is still held; also if it is over already, unless it was purchased",
        ReasonBody,
        examples.REASON,
        *OVER,
    ),
    ("POST", "/api/reservations/{reservation_id}/release"): _end(
        "releaseLines", "Give back a part", LinesBody, examples.LINES, *OVER, NotHeldError
    ),
    ("POST", "/api/reservations/{reservation_id}/extend"): _end(
        "extendReservation", "Hold on, counted from now", ExtendBody, {"ttl_seconds": 900}, *OVER
    ),
    ("POST", "/api/reservations/{reservation_id}/purchase"): _end(
        "purchaseReservation",
        "Buy all, or the lines given; the rest stays held. With `rehold`, also what expired, if it is all there",
        PurchaseBody,
        examples.REASON,
        *OVER,
        NotHeldError,
        InsufficientStockError,
    ),
    ("POST", "/api/reservations/{reservation_id}/return"): _end(
        "returnPurchase",
        "Bring back what was purchased",
        LinesBody,
        examples.LINES,
        UnknownReservationError,
        NotHeldError,
        StockLimitError,
    ),
    ("GET", "/api/fulfilment-requests"): Operation(
        id="listFulfilmentRequests",
        tag=TAG,
        summary="What was purchased, in the order of the log, to be followed with `after`",
        parameters=(*PAGE, AFTER),
        answers=_page(shapes.FulfilmentRequest),
        refusals=(AheadOfLogError,),
    ),
}
