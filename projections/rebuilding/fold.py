"""Folding the log into new inline read models: state stays in memory from chunk to chunk, rows are written once.

What a live transaction loads and saves each time, a rebuild keeps. Memory is bounded: beyond MAX_KEPT all is written
by COPY and forgotten, and loaded again if the log comes back to it.
"""

from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from ledger.catalogue.products import Product
from ledger.catalogue.products import evolve as evolve_product
from ledger.events import EVENTS
from ledger.facts import Entry
from ledger.items.events import ItemPurchased, ItemReserved
from ledger.items.items import Item
from ledger.items.items import evolve as evolve_item
from ledger.reservations.reservations import Reservation, reservation_of
from ledger.reservations.reservations import evolve as evolve_reservation
from ledger.stock.events import StockEvent, StockPurchased, StockReserved
from ledger.stock.levels import Stock
from ledger.stock.levels import evolve as evolve_stock
from ledger.store.connection import BoundedConnection
from ledger.store.roundtrip import RoundTrip, transaction
from ledger.streams import parse_stream
from ledger.unit_of_work import UnitOfWork
from projections.catalogue import products
from projections.fulfilment import fulfilment_requests
from projections.items import items
from projections.reservations import reservations
from projections.rows import Named
from projections.stock import stock_levels

# Products, levels, items and reservations in memory: about 300 MB.
MAX_KEPT = 300_000
# Entries between two times that all is written: each can add a line to a reservation, and carts can be large.
MAX_ENTRIES = 1_500_000
# Rows that are put into one COPY.
WRITE_ROWS = 20_000

# Asked for by class, which is several times as fast as `isinstance`.
_OF_STOCK = {event for event in EVENTS.values() if issubclass(event, StockEvent)}
_RESERVED = {StockReserved, ItemReserved}
_PURCHASES = {StockPurchased, ItemPurchased}

_LONG_AGO = datetime.min.replace(tzinfo=UTC)

K = TypeVar("K")
S = TypeVar("S")


class _Kept(Generic[K, S]):
    """The rows of one read model that are in memory, None for those that are nowhere.

    Until the first `forget` they are all there are, and nothing has to be known of them.
    """

    def __init__(
        self,
        state: MutableMapping[K, Any],
        ask: Callable[[RoundTrip, Collection[K]], Callable[[UnitOfWork], None]],
        bulk: Callable[[BoundedConnection, Collection[S]], None],
        save: Callable[[RoundTrip, Collection[S]], None],
    ) -> None:
        self.state = state
        self._ask = ask
        self._bulk = bulk
        self._save = save
        self._stored: set[K] = set()  # in the table, maybe as it was before
        self._missing: list[K] = []  # to be loaded

    def begin(self, keys: Mapping[K, bool], initial: Callable[[K], S | None]) -> None:
        """A chunk is about `keys`; those that are true begin in it, with the first event that there is of them."""
        for key, is_first in keys.items():
            if key not in self.state:
                if is_first:
                    self.state[key] = initial(key)
                else:
                    self._missing.append(key)
                    self._stored.add(key)

    def load(self, trip: RoundTrip) -> Callable[[UnitOfWork], None] | None:
        missing, self._missing = self._missing, []
        return self._ask(trip, missing) if missing else None

    def write(self, conn: BoundedConnection) -> None:
        """Write all that is in memory."""
        new = [state for key, state in self.state.items() if key not in self._stored]
        for start in range(0, len(new), WRITE_ROWS):
            self._bulk(conn, new[start : start + WRITE_ROWS])
        if self._stored:
            trip = RoundTrip(conn)
            self._save(trip, [self.state[key] for key in self._stored])
            trip.go()

    def forget(self, but: K | None = None) -> None:
        """All that was written, but for one key."""
        kept = self.state.get(but) if but is not None else None
        self.state.clear()
        self._stored.clear()
        if but is not None and kept is not None:
            self.state[but] = kept
            self._stored.add(but)


class InlineFold:
    """Folds entries into the inline read models that `conn` finds, empty at first; `flush` writes what is in memory.

    It does with the rules' own `evolve` what UnitOfWork.apply does, but for stock, where the last event of a chunk is
    enough: each carries the balance. Reservations are kept by the number of their id: Python looks up an UUID slowly.
    """

    def __init__(self, conn: BoundedConnection, add_keys: Callable[[], None]) -> None:
        """`add_keys` is called before rows have to be found in the tables."""
        self._conn = conn
        self._add_keys = add_keys
        self._work = work = UnitOfWork(_LONG_AGO, 0)
        self._products: _Kept[str, Product] = _Kept(work.products, products.ask, products.bulk, products.save)
        self._stock: _Kept[str, Stock] = _Kept(work.stock, stock_levels.ask, stock_levels.bulk, stock_levels.save)
        self._items: _Kept[tuple[str, str], Item] = _Kept(work.items, items.ask, items.bulk, items.save)
        self._reservations: _Kept[int, Reservation] = _Kept(
            {},
            lambda trip, numbers: reservations.ask(trip, Named([UUID(int=number) for number in numbers], [], [])),
            reservations.bulk,
            reservations.save,
        )
        self._all: tuple[_Kept[Any, Any], ...] = (self._products, self._stock, self._items, self._reservations)
        self._holds_all = True  # and nothing is in the tables alone
        self._entries = 0  # since all was written
        self._last: int | None = None  # the reservation that the last entry is about
        self._purchases: fulfilment_requests.Requests = {}

    def fold(self, entries: Sequence[Entry]) -> None:
        if not self._holds_all:
            self._add_keys()
            self._load(entries)
        purchased = self._apply(entries)
        last = reservation_of(entries[-1].event)
        self._last = None if last is None else last.int
        self._entries += len(entries)
        with transaction(self._conn):
            # The lines of a purchase follow each other, so one that this chunk did not add to is whole.
            self._write_purchases([key for key in self._purchases if key not in purchased])
            if sum(len(kept.state) for kept in self._all) <= MAX_KEPT and self._entries <= MAX_ENTRIES:
                return
            self._write()
        self._forget()

    def flush(self) -> None:
        """Make the tables show every entry that was folded."""
        with transaction(self._conn):
            self._write()
            self._write_purchases(list(self._purchases))
        self._forget()

    def _forget(self) -> None:
        """The lines of a cart follow each other, so the last entry's alone can go on as if it began."""
        for kept in self._all:
            kept.forget(self._last if kept is self._reservations else None)
        self._holds_all = False
        self._entries = 0

    def _apply(self, entries: Sequence[Entry]) -> set[UUID]:
        """Carry entries into the state; returns the purchases that were added to."""
        work, holds = self._work, self._reservations.state
        levels: dict[str, Entry] = {}
        purchased: set[UUID] = set()
        for entry in entries:
            event = entry.event
            family, sku, sn = parse_stream(entry.stream)
            if family == "stock":
                if type(event) not in _OF_STOCK:
                    raise TypeError(f"not a fact of stock {entry.stream}: {event!r}")
                levels[sku] = entry
            elif family == "product":
                work.products[sku] = evolve_product(work.products.get(sku), entry)
            else:
                work.items[sku, sn] = evolve_item(work.items.get((sku, sn)), entry)
            reservation: Reservation | None = None
            reservation_id: UUID | None = getattr(event, "reservation_id", None)
            if reservation_id is not None:
                number = reservation_id.int
                reservation = holds[number] = evolve_reservation(holds.get(number), entry)
            if type(event) in _PURCHASES and isinstance(event, StockPurchased | ItemPurchased):
                fulfilment_requests.collect(self._purchases, entry, event, reservation)
                purchased.add(event.purchase_id)
        for sku, entry in levels.items():
            work.stock[sku] = evolve_stock(Stock(sku), entry)
        return purchased

    def _load(self, entries: Sequence[Entry]) -> None:
        """Have in memory whatever the entries are about; what begins among them is not looked for."""
        streams: dict[str, bool] = {}
        holds: dict[int, bool] = {}
        for entry in entries:
            streams.setdefault(entry.stream, entry.version == 1)
            if (reservation_id := reservation_of(entry.event)) is not None:
                holds.setdefault(reservation_id.int, type(entry.event) in _RESERVED)
        names: dict[str, dict[Any, bool]] = {"product": {}, "stock": {}, "item": {}}
        for stream, is_first in streams.items():
            family, sku, sn = parse_stream(stream)
            names[family][(sku, sn) if sn else sku] = is_first
        self._products.begin(names["product"], _nothing)
        self._stock.begin(names["stock"], Stock)
        self._items.begin(names["item"], _nothing)
        self._reservations.begin(holds, _nothing)
        trip = RoundTrip(self._conn)
        fills = [fill for kept in self._all if (fill := kept.load(trip))]
        if fills:
            trip.go()
        for fill in fills:
            fill(self._work)
        self._reservations.state.update({key.int: found for key, found in self._work.reservations.items()})
        self._work.reservations.clear()

    def _write(self) -> None:
        for kept in self._all:
            kept.write(self._conn)

    def _write_purchases(self, keys: Collection[UUID]) -> None:
        if keys:
            fulfilment_requests.bulk(self._conn, [self._purchases.pop(key) for key in keys])


def _nothing(_key: object) -> None:
    return None
