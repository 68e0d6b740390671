"""The closed table of stored names, put together from the rooms: every fact that history may hold."""

from ledger.catalogue.events import ProductRegistered, ProductRevised
from ledger.facts import Event
from ledger.items.events import (
    ItemAdded,
    ItemPurchased,
    ItemReleased,
    ItemReservationExtended,
    ItemReserved,
    ItemReturned,
    ItemRevised,
)
from ledger.stock.events import (
    StockAdded,
    StockPurchased,
    StockReleased,
    StockRemoved,
    StockReservationExtended,
    StockReserved,
    StockReturned,
)

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
