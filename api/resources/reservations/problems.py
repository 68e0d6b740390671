"""How refusals of this room are told: status, slug and title by class of error, and what each says beside its text."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from ledger.errors import LedgerError
from ledger.reservations.errors import (
    NotHeldError,
    ReservationEndedError,
    ReservationIdTakenError,
    UnknownReservationError,
)
from ledger.reservations.reservations import State

PROBLEMS: Mapping[type[LedgerError], tuple[int, str, str]] = {
    UnknownReservationError: (404, "unknown-reservation", "No such reservation"),
    ReservationIdTakenError: (409, "reservation-id-taken", "The reservation exists with other content"),
    ReservationEndedError: (409, "reservation-ended", "The reservation is over"),
    NotHeldError: (409, "not-held", "The reservation does not hold that much"),
}
MEMBERS: Mapping[str, Mapping[str, Any]] = {
    "unknown-reservation": {"reservation_id": UUID},
    "reservation-id-taken": {"reservation_id": UUID},
    "reservation-ended": {"reservation_id": UUID, "state": State},
    "not-held": {"reservation_id": UUID, "sku": str, "sn": str | None, "requested": int, "available": int},
}
