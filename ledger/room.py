"""What a business brings to the ledger, said in one place: its facts, kinds of state, commands and what goes with them.

Each room declares one `Room` in its `room.py`; `ledger/rooms.py` lists them, and the engine is given the list.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from ledger.commands import Command
from ledger.errors import LedgerError
from ledger.facts import Entry, Event, Fact
from ledger.outcome import Outcome
from ledger.state import Keys, StateKind, StateKinds
from ledger.store.connection import BoundedConnection
from ledger.store.roundtrip import RoundTrip
from ledger.unit_of_work import UnitOfWork


def _unchanged(command: Any, _entries: Sequence[Entry]) -> Any:
    return command


class Rule(Struct, frozen=True):
    """How one class of command is decided.

    `needs` adds what it looks at, to be loaded beforehand. `decide` says what it makes happen, or raises the
    LedgerError that refuses it. `outcome` says what it left behind, the parts that its caller asked about: a `told`.

    For a repeat with the same idempotency key the outcome is made again: `as_first` gives the command as it was at
    first, with the ids that were made for it then, from the entries that it recorded; `outcome_needs` adds what the
    outcome looks at, where that is not what the rule does.
    """

    decide: Callable[[UnitOfWork, Any], list[Fact]]
    needs: Callable[[Any, Keys], None]
    outcome: Callable[[UnitOfWork, Any], Outcome]
    told: type[Outcome]
    as_first: Callable[[Any, Sequence[Entry]], Any] = _unchanged
    outcome_needs: Callable[[Any, Keys], None] | None = None


class ReadModels(Protocol):
    """The inline read models, as the write side sees them (`projections.inline`)."""

    def ask(self, trip: RoundTrip, needs: Keys) -> Callable[[UnitOfWork], None]:
        """Ask for state; call the result to fill the unit of work. What it holds already is left as it is."""

    def save(self, trip: RoundTrip, work: UnitOfWork, entries: Sequence[Entry]) -> None:
        """Ask for the state that `entries` changed to be written."""

    def demand(self) -> "Demand":
        """A counter of what a transaction refuses."""


class Recourse(Protocol):
    """What a room can do within a transaction for a command that would be refused. One is made for each transaction."""

    def prepare(self, work: UnitOfWork, command: Command) -> None:
        """Before the command is decided."""

    def after_refusal(self, work: UnitOfWork, command: Command, error: LedgerError) -> bool:
        """Whether something was recorded in `work` after which it is worth deciding the command once more.

        If not, what the caller is to know beside the refusal is added to `error`.
        """


class Demand(Protocol):
    """Counts what was asked for and refused; one is made for each transaction."""

    def __bool__(self) -> bool:
        """Whether there is anything to save."""

    def count(self, commands: Sequence[Command], results: Sequence[Outcome | LedgerError]) -> None: ...

    def save(self, trip: RoundTrip, now: datetime, *, alone: bool) -> None:
        """Ask for the counts to be added; `alone` in its transaction, which then is not waited for to be on disk."""


class Room(Struct, frozen=True, kw_only=True):
    """`facts` by the name under which they are stored for ever, `rules` by the class of command that they decide.

    `before` is done before any command is decided, refused or not; what it records stays.
    `recourse` is given the transaction's connection and the inline read models.
    """

    name: str
    facts: Mapping[str, type[Event]] = {}
    states: tuple[StateKind[Any, Any], ...] = ()
    rules: Mapping[type[Command], Rule] = {}
    before: Callable[[UnitOfWork, Command], None] | None = None
    recourse: Callable[[BoundedConnection, Any], Recourse] | None = None


class Rooms:
    """All rooms of a ledger, put together. Raises ValueError when two of them claim the same name."""

    def __init__(self, rooms: Sequence[Room]) -> None:
        self.states = StateKinds([state for room in rooms for state in room.states])
        self.rules: dict[type[Command], Rule] = joined(room.rules for room in rooms)
        self.before = tuple(room.before for room in rooms if room.before is not None)
        self.recourses = tuple(room.recourse for room in rooms if room.recourse is not None)

    def needs_of(self, commands: Iterable[Command]) -> Keys:
        """What is to be loaded before the commands are decided."""
        needs = Keys()
        rules = self.rules
        for command in commands:
            rules[type(command)].needs(command, needs)
        return needs


def joined(tables: Iterable[Mapping[Any, Any]]) -> dict[Any, Any]:
    """One table of several; raises ValueError when two of them have the same key."""
    found: dict[Any, Any] = {}
    for table in tables:
        if twice := found.keys() & table.keys():
            raise ValueError(f"claimed twice: {', '.join(sorted(map(str, twice)))}")
        found.update(table)
    return found
