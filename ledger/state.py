"""Kinds of state that rules look at, by key. A room declares its own, each once.

What never lives here: how state is loaded (projections), and what a rule makes of it (the rooms).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Generic, TypeVar

from ledger.facts import Entry, Event

# A stream's name is taken apart several times for each event, and most events are of few streams.
KNOWN_STREAMS = 20_000

K = TypeVar("K")
S = TypeVar("S")


class StateKind(Generic[K, S]):
    """One kind of state, by key.

    `evolve` carries an entry into it, `absent` gives what there is of a key before its first entry. An entry is about
    the key that `key_of_stream` makes of its stream, for streams whose name begins with `family` and `/` (it raises
    ValueError for a name that no stream has), and `stream_of` is the other way round; or about the one that
    `key_of_event` tells, None if it is about none. `balance` is the class of events that each carry the whole state
    after them, so that the last of several is enough.
    """

    __slots__ = ("absent", "balance", "evolve", "family", "key_of_event", "key_of_stream", "name", "stream_of")

    def __init__(
        self,
        name: str,
        evolve: Callable[[S, Entry], S],
        absent: Callable[[K], S],
        *,
        family: str | None = None,
        key_of_stream: Callable[[str], K] | None = None,
        stream_of: Callable[[K], str] | None = None,
        key_of_event: Callable[[Event], K | None] | None = None,
        balance: type[Event] | None = None,
    ) -> None:
        self.name = name
        self.evolve = evolve
        self.absent = absent
        self.family = family
        self.key_of_stream = key_of_stream
        self.stream_of = stream_of
        self.key_of_event = key_of_event
        self.balance = balance

    def __repr__(self) -> str:
        return f"StateKind({self.name!r})"


class StateKinds:
    """All kinds of state of a ledger. Raises ValueError when two of them claim the same streams."""

    def __init__(self, states: Sequence[StateKind[Any, Any]]) -> None:
        self.all = tuple(states)
        self.by_event = tuple((state, state.key_of_event) for state in self.all if state.key_of_event is not None)
        self._by_family = {state.family: state for state in self.all if state.family is not None}
        families = [state.family for state in self.all if state.family is not None]
        if len(set(families)) != len(families):
            raise ValueError(f"two kinds of state claim the same streams: {', '.join(families)}")
        self.of_stream = lru_cache(maxsize=KNOWN_STREAMS)(self._of_stream)

    def _of_stream(self, stream: str) -> tuple[StateKind[Any, Any], Any]:
        """The state that a stream's entries are about, and its key; raises ValueError for a stream of none."""
        family = stream.partition("/")[0]
        state = self._by_family.get(family)
        if state is None or state.key_of_stream is None:
            raise ValueError(f"not a stream of this ledger: {stream!r}")
        return state, state.key_of_stream(stream)


class Keys:
    """Keys by kind of state: what is to be loaded before commands are decided, or what they have changed."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: dict[StateKind[Any, Any], set[Any]] = {}

    def add(self, state: StateKind[K, Any], *keys: K) -> None:
        self.update(state, keys)

    def update(self, state: StateKind[K, Any], keys: Iterable[K]) -> None:
        found = self._keys.get(state)
        if found is None:
            self._keys[state] = set(keys)
        else:
            found.update(keys)

    def of(self, state: StateKind[K, Any]) -> set[K]:
        """The keys of one kind; not to be changed."""
        return self._keys.get(state, _NONE)

    def __iter__(self) -> Iterator[tuple[StateKind[Any, Any], set[Any]]]:
        return iter(self._keys.items())


_NONE: set[Any] = set()
