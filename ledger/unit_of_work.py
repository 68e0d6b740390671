"""The unit of work: the working copy that one transaction decides on. What was loaded, plus what was decided since."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from ledger.facts import Entry, Fact
from ledger.state import Keys, StateKind, StateKinds

K = TypeVar("K")
S = TypeVar("S")


class UnitOfWork:
    """`now` is the database's clock (UTC) under the lock; `position` is that of the last entry in the log.

    `work[STATE]` is what is known of one kind of state, by key. A key that was looked up and is not there holds what is
    `absent`. A key that is missing was never loaded: a rule that asks for it raises KeyError, which is a defect, rather
    than take it for absent.
    """

    def __init__(self, now: datetime, position: int, states: StateKinds) -> None:
        self.now = now
        self.position = position
        self.states = states
        self.entries: list[Entry] = []
        # What rooms keep for themselves while this transaction lasts: it is copied, and so undone, with the rest.
        self.remembered: dict[object, set[Any]] = {}
        self._held: dict[StateKind[Any, Any], dict[Any, Any]] = {state: {} for state in states.all}

    def __getitem__(self, state: StateKind[K, S]) -> dict[K, S]:
        return self._held[state]

    def copy(self) -> "UnitOfWork":
        """The same work, to go on from or to go back to: what it holds is never changed in place."""
        copy = UnitOfWork(self.now, self.position, self.states)
        copy._held = {state: dict(held) for state, held in self._held.items()}
        copy.entries = list(self.entries)
        copy.remembered = {whose: set(kept) for whose, kept in self.remembered.items()}
        return copy

    def changed(self, entries: Sequence[Entry]) -> Keys:
        """What entries have changed."""
        keys = Keys()
        for stream in {entry.stream for entry in entries}:
            keys.add(*self.states.of_stream(stream))
        for entry in entries:
            for state, key_of_event in self.states.by_event:
                if (key := key_of_event(entry.event)) is not None:
                    keys.add(state, key)
        return keys

    def record(self, facts: Iterable[Fact]) -> None:
        """Give facts their place in the log and carry them into the state."""
        for fact in facts:
            state, key = self.states.of_stream(fact.stream)
            before = self._held[state][key]
            version = 1 if before is None else before.version + 1
            entry = Entry(self.position + 1, self.now, fact.stream, version, fact.event)
            self.apply(entry)
            self.entries.append(entry)

    def apply(self, entry: Entry) -> None:
        """Carry one entry into the state; what its stream is about must have been loaded."""
        state, key = self.states.of_stream(entry.stream)
        held = self._held[state]
        held[key] = state.evolve(held[key], entry)
        for other, key_of_event in self.states.by_event:
            key = key_of_event(entry.event)
            if key is not None:
                held = self._held[other]
                # What begins with this entry may have an id of our own making, and then nobody looked it up.
                held[key] = other.evolve(held[key] if key in held else other.absent(key), entry)
        self.position = entry.position
