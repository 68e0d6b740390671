"""What reservations bring to the API."""

from typing import Any

from msgspec import structs

from api.access.scopes import Scope
from api.http.routes import Route
from api.http.service import CommandCall
from api.resources import fulfilment_requests
from api.resources.items.room import item
from api.resources.reservations import reservations
from api.resources.reservations.batch_commands import BATCH
from api.resources.reservations.operations import RESERVATIONS as OPERATIONS
from api.resources.reservations.schemas import ReservationAnswer, ShortageAnswer
from api.resources.stock.schemas import FungibleAnswer
from api.room import Room
from ledger.reservations.commands import (
    ChangeReservation,
    ExtendReservation,
    MakeReservation,
    PurchaseReservation,
    ReleaseItem,
    ReleaseReservation,
    ReserveItem,
    ReturnPurchase,
)
from ledger.reservations.outcomes import MadeOutcome, ReservationOutcome

_RESERVATION = "/api/reservations/{reservation_id:uuid}"
_LINE = [
    {"required": ["quantity"], "properties": {"sn": False}},
    {"required": ["sn"], "properties": {"quantity": {"const": 1}}},
]


def _reservation(_command: Any, outcome: ReservationOutcome) -> tuple[int, ReservationAnswer]:
    assert outcome.reservation is not None, "the command is about a reservation"
    return 200, ReservationAnswer.of(outcome.reservation)


def _version(_command: Any, outcome: ReservationOutcome) -> int:
    assert outcome.reservation is not None, "the command is about a reservation"
    return outcome.reservation.version


def _version_made(command: MakeReservation, outcome: MadeOutcome) -> int:
    return outcome.reservation.version if command.cart else outcome.product.version + outcome.stock.version


def _made(command: MakeReservation, outcome: MadeOutcome) -> tuple[int, ReservationAnswer | FungibleAnswer]:
    """A cart is answered with the reservation, a quantity of one product with the product and the reservation in it."""
    made = ReservationAnswer.of(outcome.reservation)
    if not command.cart:
        return 200, FungibleAnswer.of(outcome.product, outcome.stock, made)
    if outcome.missing:
        made = structs.replace(made, missing=[ShortageAnswer.of(short, {}) for short in outcome.missing])
    return 201, made


def _holder(_command: Any) -> tuple[Scope, ...]:
    return ("reservations:write",)


RESERVATIONS = Room(
    name="reservations",
    routes=(
        Route("/api/reservations", reservations.Reservations, get="read", post="reservations:write"),
        Route(
            _RESERVATION, reservations.Reservation, get="read", put="reservations:write", delete="reservations:write"
        ),
        Route(f"{_RESERVATION}/release", reservations.Release, post="reservations:write"),
        Route(f"{_RESERVATION}/extend", reservations.Extend, post="reservations:write"),
        Route(f"{_RESERVATION}/purchase", reservations.Purchase, post="reservations:write"),
        Route(f"{_RESERVATION}/return", reservations.Return, post="stock:write"),
        Route("/api/fulfilment-requests", fulfilment_requests.FulfilmentRequests, get="read"),
    ),
    commands={
        MakeReservation: CommandCall(_holder, _made, _version_made),
        ReserveItem: CommandCall(_holder, item),
        ReleaseItem: CommandCall(_holder, item),
        ReleaseReservation: CommandCall(_holder, _reservation, _version),
        ExtendReservation: CommandCall(_holder, _reservation, _version),
        ChangeReservation: CommandCall(_holder, _reservation, _version),
        PurchaseReservation: CommandCall(_holder, _reservation, _version),
        # Goods come in.
        ReturnPurchase: CommandCall(lambda _: ("stock:write",), _reservation, _version),
    },
    batch=BATCH,
    operations=OPERATIONS,
    exactly={"LineBody": {"anyOf": _LINE}},
)
