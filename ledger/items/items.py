"""Items: single pieces of a non-fungible product, each with a serial number that is unique within its SKU."""

from datetime import datetime
from uuid import UUID

from msgspec import UNSET, Struct, structs

from ledger.facts import Entry
from ledger.items.errors import ItemHeldError, ItemSoldError, UnknownItemError
from ledger.items.events import (
    ItemAdded,
    ItemPurchased,
    ItemReleased,
    ItemReservationExtended,
    ItemReserved,
    ItemReturned,
    ItemRevised,
)
from ledger.state import StateKind
from ledger.stock.errors import Shortage
from ledger.streams import item_stream, parse_stream

_MEMBERS = ("color", "notes", "price_cents")


class Item(Struct, frozen=True):
    """`reservation_id`, `reserved_at` and `reserved_until` are of the hold on it, null where there is none.

    `sold_under` is the reservation that it was purchased under, if any; `version` counts the item's own facts.
    """

    sku: str
    sn: str
    color: str | None
    notes: str | None
    price_cents: int
    sold: bool
    version: int
    updated_at: datetime
    reservation_id: UUID | None = None
    reserved_at: datetime | None = None
    reserved_until: datetime | None = None
    sold_under: UUID | None = None


def require(item: Item | None, sku: str, sn: str) -> Item:
    """Return the item; raises UnknownItemError."""
    if item is None:
        raise UnknownItemError(sku, sn)
    return item


def require_free(item: Item) -> None:
    """Raises ItemSoldError, then ItemHeldError, unless the item can be reserved."""
    if item.sold:
        raise ItemSoldError(item.sku, item.sn)
    if item.reserved_until is not None:
        raise ItemHeldError(item.sku, item.sn, item.reserved_until)


def shortage(item: Item) -> Shortage | None:
    """What a cart is told of an item that it cannot have; None if it can."""
    if item.sold or item.reservation_id is not None:
        return Shortage(item.sku, 1, 0, 0 if item.sold else 1, item.sn)
    return None


def evolve(item: Item | None, entry: Entry) -> Item:
    event, at = entry.event, entry.recorded_at
    if isinstance(event, ItemAdded):
        _, sku, sn = entry.stream.split("/")
        return Item(sku, sn, event.color, event.notes, event.price_cents, False, entry.version, at)
    if item is None:
        raise TypeError(f"the first fact of {entry.stream} must be ItemAdded, not {event!r}")
    return structs.replace(item, **_changes(event, at), version=entry.version, updated_at=at)


def _changes(event: object, at: datetime) -> dict[str, object]:
    """The members of an item that `event` sets."""
    free = {"reservation_id": None, "reserved_at": None, "reserved_until": None}
    match event:
        case ItemRevised():
            return {m: value for m in _MEMBERS if (value := getattr(event, m)) is not UNSET}
        case ItemReserved():
            return {
                "reservation_id": event.reservation_id,
                "reserved_at": at,
                "reserved_until": event.expires_at,
            }
        case ItemReservationExtended():
            return {"reserved_until": event.expires_at}
        case ItemReleased():
            return dict(free)
        case ItemPurchased():
            return {**free, "sold": True, "sold_under": event.reservation_id}
        case ItemReturned():
            return {**free, "sold": False, "sold_under": None}
    raise TypeError(f"not a fact of an item: {event!r}")


def _nothing(_key: tuple[str, str]) -> None:
    return None


ITEMS: StateKind[tuple[str, str], Item | None] = StateKind(
    "items",
    evolve,
    _nothing,
    family="item",
    key_of_stream=lambda stream: parse_stream(stream)[1:],
    stream_of=lambda key: item_stream(*key),
)
