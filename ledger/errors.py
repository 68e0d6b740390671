"""Everything the ledger refuses, as a tree. `api/problems.py` gives each class its status and slug.

An error's text is the sentence a caller reads; `members` is the data beside it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct


class LedgerError(Exception):
    """Base of all; `position` is the log position that the answer reflects, where one was read."""

    position: int | None = None

    def __init__(self, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.members: dict[str, Any] = members


class InvalidError(LedgerError):
    """Well-formed input that cannot be meant: `errors` names each bad member and says what it must be."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{member} {must}" for member, must in errors.items()), errors=dict(errors))


# Nothing there by that name.


class UnknownError(LedgerError):
    pass


class UnknownProductError(UnknownError):
    def __init__(self, sku: str) -> None:
        super().__init__(f"There is no product with SKU {sku!r}.", sku=sku)


class UnknownItemError(UnknownError):
    def __init__(self, sku: str, sn: str) -> None:
        super().__init__(f"There is no item {sn!r} of SKU {sku!r}.", sku=sku, sn=sn)


class UnknownReservationError(UnknownError):
    def __init__(self, reservation_id: UUID) -> None:
        super().__init__(f"There is no reservation {reservation_id}.", reservation_id=str(reservation_id))


# The rules say no.


class RefusedError(LedgerError):
    pass


class OtherKindError(RefusedError):
    def __init__(self, sku: str, kind: str) -> None:
        super().__init__(f"SKU {sku!r} is a {kind} product.", sku=sku, kind=kind)


class Shortage(Struct, frozen=True, omit_defaults=True):
    """One line that cannot be had: how much was asked for, how much is free, how much others hold until when."""

    sku: str
    requested: int
    available: int
    held_by_others: int
    sn: str | None = None


class InsufficientStockError(RefusedError):
    """Names every short line, so that a cart can be mended in one go.

    `next_release_at` is filled in by whoever can look it up, keyed by (sku, sn or None): the rule does not know it.
    """

    def __init__(self, shortages: Sequence[Shortage]) -> None:
        first = shortages[0]
        super().__init__(
            f"SKU {first.sku!r}: {first.requested} requested, {first.available} available."
            if len(shortages) == 1
            else f"{len(shortages)} lines are short.",
            sku=first.sku,
            requested=first.requested,
            available=first.available,
        )
        self.shortages = tuple(shortages)
        self.next_release_at: dict[tuple[str, str | None], datetime | None] = {}


class StockLimitError(RefusedError):
    def __init__(self, sku: str, limit: int) -> None:
        super().__init__(f"The stock of SKU {sku!r} would exceed {limit}.", sku=sku, limit=limit)


class ItemHeldError(RefusedError):
    def __init__(self, sku: str, sn: str, reserved_until: datetime) -> None:
        super().__init__(
            f"Item {sn!r} of SKU {sku!r} is already reserved.", sku=sku, sn=sn, reserved_until=reserved_until
        )


class ItemSoldError(RefusedError):
    def __init__(self, sku: str, sn: str) -> None:
        super().__init__(f"Item {sn!r} of SKU {sku!r} is already sold.", sku=sku, sn=sn)


class ReservationIdTakenError(RefusedError):
    def __init__(self, reservation_id: UUID) -> None:
        super().__init__(
            f"Reservation {reservation_id} already exists with other content.", reservation_id=str(reservation_id)
        )


class ReservationEndedError(RefusedError):
    def __init__(self, reservation_id: UUID, state: str) -> None:
        super().__init__(
            f"Reservation {reservation_id} is over: it is {state}.", reservation_id=str(reservation_id), state=state
        )


class NotHeldError(RefusedError):
    """More was to be released or returned than the reservation's line holds or has purchased."""

    def __init__(self, reservation_id: UUID, sku: str, sn: str | None, requested: int, available: int) -> None:
        what = f"SKU {sku!r}" if sn is None else f"item {sn!r} of SKU {sku!r}"
        super().__init__(
            f"Reservation {reservation_id} has {available} of {what} to give back, not {requested}.",
            reservation_id=str(reservation_id),
            sku=sku,
            sn=sn,
            requested=requested,
            available=available,
        )


class PreconditionFailedError(LedgerError):
    def __init__(self, version: int | None, *, wanted_absent: bool) -> None:
        if wanted_absent:
            text = "It exists already."
        else:
            text = "It does not exist." if version is None else f"It has version {version}."
        super().__init__(text, version=version)


class KeyReusedError(LedgerError):
    def __init__(self, key: str) -> None:
        super().__init__("This Idempotency-Key was used with another request.", idempotency_key=key)


class AbandonedError(RefusedError):
    """Refused only because another command of the same all-or-nothing group was."""

    def __init__(self) -> None:
        super().__init__("Not carried out, because another command of the batch was refused.")


# Not now: nothing was done, or it cannot be told yet. Safe to try again, with an Idempotency-Key always.


class UnavailableError(LedgerError):
    retry_after_seconds = 1


class BusyError(UnavailableError):
    def __init__(self) -> None:
        super().__init__("More is asked of the ledger than it can do at the moment; nothing was recorded.")


class DatabaseAwayError(UnavailableError):
    def __init__(self) -> None:
        super().__init__("The database cannot be reached; nothing was recorded.")


class OutcomeUnknownError(UnavailableError):
    def __init__(self) -> None:
        super().__init__(
            "The database did not say in time whether this was recorded. It is recorded at most once;"
            " try again with the same Idempotency-Key to learn the outcome."
        )


class DefectError(LedgerError):
    """A command met a defect of this service."""

    def __init__(self) -> None:
        super().__init__("The service could not carry this out; nothing was recorded.")


# The log holds something that this program cannot read. Never raised by a caller's input.


class UnreadableEventError(LedgerError):
    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"The log holds an event named {name!r} that cannot be read: {why}", name=name)
