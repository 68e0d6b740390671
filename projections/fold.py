"""Folding the log into new inline read models: state stays in memory from chunk to chunk, rows are written once.

What a live transaction loads and saves each time, a rebuild keeps: most rows are written when nothing more is expected
to happen to them, by COPY. Memory is bounded: beyond MAX_KEPT, what was not touched lately is written and forgotten,
and loaded again if the log comes back to it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from ledger.books import Books
from ledger.events import Entry
from ledger.items import Item
from ledger.products import Product
from ledger.reservations import Reservation, Reserved, reservation_of
from ledger.stock import Stock
from ledger.store.connection import BoundedConnection
from ledger.store.roundtrip import RoundTrip, transaction
from ledger.streams import parse_stream
from projections import fulfilment_requests, items, products, reservations, stock_levels
from projections.rows import Named

# Products, levels, items and reservations in memory: about 200 MB.
MAX_KEPT = 200_000

_LONG_AGO = datetime.min.replace(tzinfo=UTC)

K = TypeVar("K")
S = TypeVar("S")


class _Kept(Generic[K, S]):
    """The rows of one read model that are in memory: `state` is the books' own."""

    def __init__(
        self,
        state: MutableMapping[K, Any],
        ask: Callable[[RoundTrip, Collection[K]], Callable[[Books], None]],
        bulk: Callable[[BoundedConnection, Collection[S]], None],
        save: Callable[[RoundTrip, Collection[S]], None],
    ) -> None:
        self.state = state
        self.touched: Mapping[K, bool] = {}  # in this chunk
        self._ask = ask
        self._bulk = bulk
        self._save = save
        self._new: set[K] = set()  # not in the table
        self._changed: set[K] = set()  # in the table, as it was before
        self._missing: set[K] = set()  # in the table, not in memory

    def begin(self, keys: Mapping[K, bool], initial: Callable[[K], S | None]) -> None:
        """A chunk is about `keys`; those that are true begin in it, with the first event that there is of them."""
        self.touched = keys
        for key, is_first in keys.items():
            if key in self.state:
                if key not in self._new:
                    self._changed.add(key)
            elif is_first:
                self.state[key] = initial(key)
                self._new.add(key)
            else:
                self._missing.add(key)
                self._changed.add(key)

    def load(self, trip: RoundTrip) -> Callable[[Books], None] | None:
        missing, self._missing = self._missing, set()
        return self._ask(trip, missing) if missing else None

    def write(self, conn: BoundedConnection, keys: Collection[K] | None = None) -> None:
        """Write what is not in the table as it is in memory: all, or of these keys."""
        new = self._new if keys is None else self._new.intersection(keys)
        changed = self._changed if keys is None else self._changed.intersection(keys)
        if new:
            self._bulk(conn, [self.state[key] for key in new])
        if changed:
            trip = RoundTrip(conn)
            self._save(trip, [self.state[key] for key in changed])
            trip.go()
        self._new, self._changed = self._new - new, self._changed - changed

    def forget(self, keys: Iterable[K]) -> None:
        for key in keys:
            del self.state[key]

    def untouched(self) -> list[K]:
        return [key for key in self.state if key not in self.touched]


class InlineFold:
    """Folds entries into the inline read models that `conn` finds, empty at first; `flush` writes what is in memory."""

    def __init__(self, conn: BoundedConnection) -> None:
        self._conn = conn
        self._books = books = Books(_LONG_AGO, 0)
        self._products: _Kept[str, Product] = _Kept(books.products, products.ask, products.bulk, products.save)
        self._stock: _Kept[str, Stock] = _Kept(books.stock, stock_levels.ask, stock_levels.bulk, stock_levels.save)
        self._items: _Kept[tuple[str, str], Item] = _Kept(books.items, items.ask, items.bulk, items.save)
        self._reservations: _Kept[UUID, Reservation] = _Kept(
            books.reservations,
            lambda trip, ids: reservations.ask(trip, Named(list(ids), [], [])),
            reservations.bulk,
            reservations.save,
        )
        self._all: tuple[_Kept[Any, Any], ...] = (self._products, self._stock, self._items, self._reservations)
        self._purchases: fulfilment_requests.Requests = {}

    def fold(self, entries: Sequence[Entry]) -> None:
        self._load(entries)
        for entry in entries:
            self._books.apply(entry)
        purchases = fulfilment_requests.collect(self._purchases, self._books, entries)
        with transaction(self._conn):
            # The lines of a purchase follow each other, so one that this chunk did not add to is whole.
            self._write_purchases([key for key in self._purchases if key not in purchases])
            ended = [key for key in self._reservations.touched if self._has_ended(key)]
            self._reservations.write(self._conn, ended)
            if sum(len(kept.state) for kept in self._all) - len(ended) > MAX_KEPT:
                self._write()
                for kept in self._all:
                    kept.forget(set(kept.untouched()).difference(ended))
        self._reservations.forget(ended)

    def flush(self) -> None:
        """Make the tables show every entry that was folded."""
        with transaction(self._conn):
            self._write()
            self._write_purchases(list(self._purchases))

    def _has_ended(self, key: UUID) -> bool:
        reservation = self._books.reservations[key]
        return reservation is not None and reservation.state != "open"

    def _load(self, entries: Sequence[Entry]) -> None:
        names: dict[str, dict[Any, bool]] = {"product": {}, "stock": {}, "item": {}}
        ids: dict[UUID, bool] = {}
        for entry in entries:
            family, sku, sn = parse_stream(entry.stream)
            names[family].setdefault((sku, sn) if sn else sku, entry.version == 1)
            if (reservation_id := reservation_of(entry.event)) is not None:
                ids.setdefault(reservation_id, isinstance(entry.event, Reserved))
        self._products.begin(names["product"], _nothing)
        self._stock.begin(names["stock"], Stock)
        self._items.begin(names["item"], _nothing)
        self._reservations.begin(ids, _nothing)
        trip = RoundTrip(self._conn)
        fills = [fill for kept in self._all if (fill := kept.load(trip))]
        if fills:
            trip.go()
        for fill in fills:
            fill(self._books)

    def _write(self) -> None:
        for kept in self._all:
            kept.write(self._conn)

    def _write_purchases(self, keys: Collection[UUID]) -> None:
        if keys:
            fulfilment_requests.bulk(self._conn, [self._purchases.pop(key) for key in keys])


def _nothing(_key: object) -> None:
    return None
