"""What an inline read model is: state that is loaded for deciding, and written in the transaction of the events."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, Protocol, TypeVar

from ledger.facts import Entry
from ledger.state import Keys, StateKind
from ledger.store.connection import Connection
from ledger.store.roundtrip import RoundTrip
from ledger.unit_of_work import UnitOfWork

K = TypeVar("K")
S = TypeVar("S")

# Fills a unit of work with what was asked for. What it holds already is left as it is.
Fill = Callable[[UnitOfWork], None]


class InlineModel(Protocol):
    """`tables` in the order in which a rebuild compares them."""

    name: str
    tables: tuple[str, ...]

    def ask(self, trip: RoundTrip, needs: Keys) -> Sequence[Fill]:
        """Ask for what is needed of it."""

    def save(self, trip: RoundTrip, work: UnitOfWork, changed: Keys, entries: Sequence[Entry]) -> None:
        """Ask for what `entries` changed to be written: a statement a table, whatever their number."""


class StateModel(Generic[K, S]):
    """The inline read model of one kind of state: a row or more for each key.

    `load` asks for keys, `write` for states to be written; `bulk` adds states that the tables do not hold. `load_all`
    asks for whatever else is to be loaded when something is needed.
    """

    def __init__(
        self,
        name: str,
        tables: tuple[str, ...],
        state: StateKind[K, Any],
        *,
        load: Callable[[RoundTrip, Collection[K]], Fill],
        write: Callable[[RoundTrip, Collection[S]], None],
        bulk: Callable[[Connection, Collection[S]], None],
        ask: Callable[[RoundTrip, Keys], Sequence[Fill]] | None = None,
    ) -> None:
        self.name = name
        self.tables = tables
        self.state = state
        self.load = load
        self.write = write
        self.bulk = bulk
        self._ask = ask

    def ask(self, trip: RoundTrip, needs: Keys) -> Sequence[Fill]:
        if self._ask is not None:
            return self._ask(trip, needs)
        keys = needs.of(self.state)
        return [self.load(trip, keys)] if keys else []

    def save(self, trip: RoundTrip, work: UnitOfWork, changed: Keys, entries: Sequence[Entry]) -> None:
        held = work[self.state]
        if states := [state for key in sorted(changed.of(self.state)) if (state := held[key]) is not None]:  # type: ignore[type-var]
            self.write(trip, states)
