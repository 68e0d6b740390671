"""Facts of fungible stock, one stream a location and SKU.

Quantities are positive; the direction is in the name. Every one carries the balance after it (`on_hand`, `reserved`),
as a bank statement does, so any past state is one look-up and every step can be checked.
"""

from datetime import datetime
from uuid import UUID

from ledger.facts import Cause, Event


class StockEvent(Event, frozen=True, kw_only=True):
    quantity: int
    on_hand: int
    reserved: int


class StockAdded(StockEvent, frozen=True, kw_only=True):
    pass


class StockRemoved(StockEvent, frozen=True, kw_only=True):
    pass


class StockReserved(StockEvent, frozen=True, kw_only=True):
    """`fingerprint` identifies the request that chose the id itself, so that a repeat is told from a clash.

    A further one under the same id, while that is open, adds to the line; with `again` it holds anew what an expired
    reservation held.
    """

    reservation_id: UUID
    expires_at: datetime
    owner: str | None = None
    fingerprint: str | None = None
    again: bool = False


class StockReleased(StockEvent, frozen=True, kw_only=True):
    reservation_id: UUID
    cause: Cause


class StockPurchased(StockEvent, frozen=True, kw_only=True):
    """`purchase_id` is shared by all lines of one purchase: one fulfilment request."""

    reservation_id: UUID
    purchase_id: UUID


class StockReturned(StockEvent, frozen=True, kw_only=True):
    reservation_id: UUID


class StockReservationExtended(StockEvent, frozen=True, kw_only=True):
    """`quantity` is what is still held; the balance does not change."""

    reservation_id: UUID
    expires_at: datetime


# By the name under which each is stored, written out so that renaming a class cannot change history.
FACTS: dict[str, type[Event]] = {
    "StockAdded.v1": StockAdded,
    "StockRemoved.v1": StockRemoved,
    "StockReserved.v1": StockReserved,
    "StockReleased.v1": StockReleased,
    "StockPurchased.v1": StockPurchased,
    "StockReturned.v1": StockReturned,
    "StockReservationExtended.v1": StockReservationExtended,
}
