"""Facts of items: single pieces of a non-fungible product, one stream each."""

from datetime import datetime
from uuid import UUID

from msgspec import UNSET, UnsetType

from ledger.facts import Cause, Event


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
    again: bool = False


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


# By the name under which each is stored, written out so that renaming a class cannot change history.
FACTS: dict[str, type[Event]] = {
    "ItemAdded.v1": ItemAdded,
    "ItemRevised.v1": ItemRevised,
    "ItemReserved.v1": ItemReserved,
    "ItemReleased.v1": ItemReleased,
    "ItemPurchased.v1": ItemPurchased,
    "ItemReturned.v1": ItemReturned,
    "ItemReservationExtended.v1": ItemReservationExtended,
}
