"""Every fact that history may hold, with its pinned stored name. Facts are never changed, only added to.

Quantities are positive; the direction is in the name. Every stock event carries the balance after it (`on_hand`,
`reserved`), as a bank statement does, so any past state is one look-up and every step can be checked.
A new shape of a fact gets a new name (`StockAdded.v2`) beside the old one, never a changed class under the old name.
"""

from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

Kind = Literal["fungible", "non-fungible"]
Cause = Literal["cancelled", "expired"]


# Facts and entries hold no cycles, so the garbage collector need not look at them (gc=False): a quarter of the
# processor time of following the log.
class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Who did it, in which request, and why."""

    actor: str
    request_id: str
    reason: str | None = None
    reference: str | None = None


class ProductRegistered(Event, frozen=True, kw_only=True):
    kind: Kind
    name: str | None = None
    description: str | None = None
    color: str | None = None
    unit_price_cents: int = 0
    shipping_weight_grams: int = 0


class ProductRevised(Event, frozen=True, kw_only=True):
    """Holds the changed members only."""

    name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    color: str | UnsetType | None = UNSET
    unit_price_cents: int | UnsetType = UNSET
    shipping_weight_grams: int | UnsetType = UNSET


class StockEvent(Event, frozen=True, kw_only=True):
    quantity: int
    on_hand: int
    reserved: int


class StockAdded(StockEvent, frozen=True, kw_only=True):
    pass


class StockRemoved(StockEvent, frozen=True, kw_only=True):
    pass


class StockReserved(StockEvent, frozen=True, kw_only=True):
    """`fingerprint` identifies the request that chose the id itself, so that a repeat is told from a clash."""

    reservation_id: UUID
    expires_at: datetime
    owner: str | None = None
    fingerprint: str | None = None


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


class ItemAdded(Event, frozen=True, kw_only=True):
    color: str | None = None
    notes: str | None = None
    price_cents: int = 0


class ItemRevised(Event, frozen=True, kw_only=True):
    """Holds the changed members only."""

    color: str | UnsetType | None = UNSET
    notes: str | UnsetType | None = UNSET
    price_cents: int | UnsetType = UNSET


class ItemReserved(Event, frozen=True, kw_only=True):
    reservation_id: UUID
    expires_at: datetime
    owner: str | None = None
    fingerprint: str | None = None


class ItemReleased(Event, frozen=True, kw_only=True):
    reservation_id: UUID
    cause: Cause


class ItemPurchased(Event, frozen=True, kw_only=True):
    """`reservation_id` is null for an item sold without being reserved first."""

    purchase_id: UUID
    reservation_id: UUID | None = None


class ItemReturned(Event, frozen=True, kw_only=True):
    reservation_id: UUID | None = None


class ItemReservationExtended(Event, frozen=True, kw_only=True):
    reservation_id: UUID
    expires_at: datetime


# The closed table of stored names, written out so that renaming a class cannot change history.
# tests/ledger/stored_events.jsonl holds a sample of each that must decode for ever.
EVENTS: dict[str, type[Event]] = {
    "ProductRegistered.v1": ProductRegistered,
    "ProductRevised.v1": ProductRevised,
    "StockAdded.v1": StockAdded,
    "StockRemoved.v1": StockRemoved,
    "StockReserved.v1": StockReserved,
    "StockReleased.v1": StockReleased,
    "StockPurchased.v1": StockPurchased,
    "StockReturned.v1": StockReturned,
    "StockReservationExtended.v1": StockReservationExtended,
    "ItemAdded.v1": ItemAdded,
    "ItemRevised.v1": ItemRevised,
    "ItemReserved.v1": ItemReserved,
    "ItemReleased.v1": ItemReleased,
    "ItemPurchased.v1": ItemPurchased,
    "ItemReturned.v1": ItemReturned,
    "ItemReservationExtended.v1": ItemReservationExtended,
}
NAMES: dict[type[Event], str] = {event: name for name, event in EVENTS.items()}


class Fact(Struct, frozen=True):
    """What a rule decides: an event and the stream it belongs to, not yet in the log."""

    stream: str
    event: Event


class Entry(Struct, frozen=True, gc=False):
    """One line of the log.

    `position` counts the whole log from 1 without gaps, `version` counts the stream from 1; `recorded_at` is the
    database's clock (UTC) under the log's lock and never runs backwards along the log.
    """

    position: int
    recorded_at: datetime
    stream: str
    version: int
    event: Event
