"""What is refused of reservations."""

from uuid import UUID

from ledger.errors import RefusedError, UnknownError


class UnknownReservationError(UnknownError):
    def __init__(self, reservation_id: UUID) -> None:
        super().__init__(f"There is no reservation {reservation_id}.", reservation_id=str(reservation_id))


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
