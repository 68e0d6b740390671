"""Folding the log into new inline read models: state stays in memory from chunk to chunk, rows are written once.

What a live transaction loads and saves each time, a rebuild keeps. Memory is bounded: beyond MAX_KEPT all is written
by COPY and forgotten, and loaded again if the log comes back to it.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from ledger.events import EVENTS
from ledger.facts import Entry, Event
from ledger.items.events import ItemPurchased
from ledger.reservations.reservations import RESERVATIONS
from ledger.rooms import ROOMS
from ledger.state import StateKind
from ledger.stock.events import StockPurchased
from ledger.store.connection import BoundedConnection
from ledger.store.roundtrip import RoundTrip, transaction
from ledger.unit_of_work import UnitOfWork
from projections import inline
from projections.fulfilment import fulfilment_requests
from projections.model import Fill, StateModel

# States in memory, of all kinds together: about 300 MB.
MAX_KEPT = 300_000
# Entries between two times that all is written: each can add a line to a reservation, and carts can be large.
MAX_ENTRIES = 1_500_000
# Rows that are put into one COPY.
WRITE_ROWS = 20_000

_PURCHASES = {StockPurchased, ItemPurchased}
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class _Kept:
    """The states of one read model that are in memory, by key; None for those that are nowhere.

    Until the first `forget` they are all there are, and nothing has to be known of them. States that events name by an
    UUID are kept by its number: Python looks up an UUID slowly.
    """

    def __init__(self, model: StateModel[Any, Any]) -> None:
        self.kind: StateKind[Any, Any] = model.state
        self.state: dict[Any, Any] = {}
        self.balances = _events_of(self.kind.balance)
        self._model = model
        self._is_numbered = self.kind.key_of_event is not None
        self._stored: set[Any] = set()  # in the table, maybe as it was before

    def load(self, trip: RoundTrip, keys: Collection[Any]) -> Fill | None:
        """Ask for the keys that are not in memory."""
        missing = [key for key in keys if key not in self.state]
        return self._model.load(trip, self._unpacked(missing)) if missing else None

    def keep_loaded(self, loaded: dict[Any, Any]) -> None:
        for key, found in loaded.items():
            packed = key.int if self._is_numbered else key
            self.state[packed] = found
            if found is not None and found != self.kind.absent(key):
                self._stored.add(packed)

    def write(self, conn: BoundedConnection) -> None:
        """Write all that is in memory, and forget it."""
        stored = self._stored
        new = [state for key, state in self.state.items() if key not in stored and state is not None]
        for start in range(0, len(new), WRITE_ROWS):
            self._model.bulk(conn, new[start : start + WRITE_ROWS])
        if stored:
            trip = RoundTrip(conn)
            self._model.write(trip, [self.state[key] for key in stored])
            trip.go()
        self.state.clear()
        stored.clear()

    def _unpacked(self, keys: list[Any]) -> list[Any]:
        return [UUID(int=number) for number in keys] if self._is_numbered else keys


class InlineFold:
    """Folds entries into the inline read models that `conn` finds, empty at first; `flush` writes what is in memory.

    It does with the rules' own `evolve` what UnitOfWork.apply does, but where each event carries the whole state: there
    the last one of a chunk is enough.
    """

    def __init__(self, conn: BoundedConnection, add_keys: Callable[[], None]) -> None:
        """`add_keys` is called before rows have to be found in the tables."""
        self._conn = conn
        self._add_keys = add_keys
        self._all = [_Kept(model) for model in inline.MODELS if isinstance(model, StateModel)]
        self._of = {kept.kind: kept for kept in self._all}
        self._holds_all = True  # and nothing is in the tables alone
        self._entries = 0  # since all was written
        self._purchases: fulfilment_requests.Requests = {}

    def fold(self, entries: Sequence[Entry]) -> None:
        if not self._holds_all:
            self._add_keys()
            self._load(entries)
        purchased = self._apply(entries)
        self._entries += len(entries)
        with transaction(self._conn):
            # The lines of a purchase follow each other, so one that this chunk did not add to is whole.
            self._write_purchases([key for key in self._purchases if key not in purchased])
            if sum(len(kept.state) for kept in self._all) > MAX_KEPT or self._entries > MAX_ENTRIES:
                self._write()

    def flush(self) -> None:
        """Make the tables show every entry that was folded."""
        with transaction(self._conn):
            self._write()
            self._write_purchases(list(self._purchases))

    def _apply(self, entries: Sequence[Entry]) -> set[UUID]:
        """Carry entries into the state; returns the purchases that were added to."""
        of_stream, by_event = ROOMS.states.of_stream, [(self._of[kind], find) for kind, find in ROOMS.states.by_event]
        kept_of = self._of
        holds = kept_of[RESERVATIONS].state
        last: dict[tuple[_Kept, Any], Entry] = {}
        purchased: set[UUID] = set()
        for entry in entries:
            event = entry.event
            kind, key = of_stream(entry.stream)
            kept = kept_of[kind]
            if kind.balance is None:
                kept.state[key] = kind.evolve(kept.state.get(key), entry)
            elif type(event) in kept.balances:
                last[kept, key] = entry
            else:
                raise TypeError(f"not a fact of {entry.stream}: {event!r}")
            for named, key_of_event in by_event:
                if (name := key_of_event(event)) is not None:
                    named.state[name.int] = named.kind.evolve(named.state.get(name.int), entry)
            if type(event) in _PURCHASES and isinstance(event, StockPurchased | ItemPurchased):
                cart = None if event.reservation_id is None else holds[event.reservation_id.int]
                fulfilment_requests.collect(self._purchases, entry, event, cart)
                purchased.add(event.purchase_id)
        for (kept, key), entry in last.items():
            kept.state[key] = kept.kind.evolve(kept.kind.absent(key), entry)
        return purchased

    def _load(self, entries: Sequence[Entry]) -> None:
        """Have in memory whatever the entries are about; a stream that begins among them is not looked for."""
        wanted: dict[_Kept, set[Any]] = {kept: set() for kept in self._all}
        began: set[str] = set()
        for entry in entries:
            if entry.version == 1:
                began.add(entry.stream)
            elif entry.stream not in began:
                kind, key = ROOMS.states.of_stream(entry.stream)
                wanted[self._of[kind]].add(key)
            for kind, key_of_event in ROOMS.states.by_event:
                if (name := key_of_event(entry.event)) is not None:
                    wanted[self._of[kind]].add(name.int)
        trip, work = RoundTrip(self._conn), UnitOfWork(_LONG_AGO, 0, ROOMS.states)
        fills = [fill for kept, keys in wanted.items() if (fill := kept.load(trip, keys))]
        if fills:
            trip.go()
        for fill in fills:
            fill(work)
        for kept in self._all:
            kept.keep_loaded(work[kept.kind])

    def _write(self) -> None:
        for kept in self._all:
            kept.write(self._conn)
        self._holds_all = False
        self._entries = 0

    def _write_purchases(self, keys: Collection[UUID]) -> None:
        if keys:
            fulfilment_requests.bulk(self._conn, [self._purchases.pop(key) for key in keys])


def _events_of(balance: type[Event] | None) -> set[type[Event]]:
    """Asked for by class, which is several times as fast as `isinstance`."""
    return {event for event in EVENTS.values() if balance is not None and issubclass(event, balance)}
