"""Answers kept under the caller's Idempotency-Key, written in the transaction of the events they answer for.

After draft-ietf-httpapi-idempotency-key-header-07: the same key with the same request gets the first answer, with
another request it is refused. Refusals are not kept.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from ledger.commands import Command, Group, Key
from ledger.errors import KeyReusedError
from ledger.outcome import Outcome
from ledger.store.connection import Connection
from ledger.store.roundtrip import RoundTrip

_LOAD = """
SELECT k.actor, k.key, k.request_hash, k.outcome
FROM unnest($1::text[], $2::text[]) AS wanted (actor, key)
JOIN idempotency_keys AS k USING (actor, key)
"""
_SAVE = """
INSERT INTO idempotency_keys (actor, key, request_hash, outcome, created_at)
SELECT actor, key, decode(request_hash, 'hex'), convert_to(outcome, 'UTF8'), $1
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS new (actor, key, request_hash, outcome)
"""

_FORGET = """
DELETE FROM idempotency_keys WHERE (actor, key) IN (
    SELECT actor, key FROM idempotency_keys
    WHERE created_at < clock_timestamp() - make_interval(days => %s) ORDER BY created_at LIMIT %s
)
"""
# Keys forgotten in one statement, which locks nothing that a command waits for.
MAX_FORGOTTEN = 10_000

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Outcome)

Scope = tuple[str, str]  # actor, key: one caller's keys never meet another's


class Kept(msgspec.Struct, frozen=True):
    request_hash: bytes
    outcome: bytes


class Answers:
    """The kept answers that one transaction may meet, and those that it adds."""

    def __init__(self) -> None:
        self._kept: dict[Scope, Kept] = {}
        self._new: dict[Scope, Kept] = {}

    def __bool__(self) -> bool:
        return bool(self._new)

    def copy(self) -> "Answers":
        """The same answers, to go on from or to go back to."""
        copy = Answers()
        copy._kept, copy._new = dict(self._kept), dict(self._new)
        return copy

    def find(self, command: Command) -> Outcome | None:
        """The outcome of the first request with this key; raises KeyReusedError if that was another request."""
        kept = self._find(command.actor, command.key)
        return None if kept is None else msgspec.structs.replace(_decoder.decode(kept.outcome), replayed=True)

    def check(self, group: Group) -> None:
        """Raises KeyReusedError if the group's key came with another request before."""
        if group.key is not None:
            self._find(group.commands[0].actor, group.key)

    def mark(self, group: Group) -> None:
        """Keep the key of a group, of which each command keeps its own answer."""
        if group.key is not None:
            scope = (group.commands[0].actor, group.key.key)
            if scope not in self._kept:
                self._kept[scope] = self._new[scope] = Kept(group.key.request_hash, b"{}")

    def _find(self, actor: str, key: Key | None) -> Kept | None:
        kept = None if key is None else self._kept.get((actor, key.key))
        if kept is not None and key is not None and kept.request_hash != key.request_hash:
            raise KeyReusedError(key.key)
        return kept

    def keep(self, command: Command, outcome: Outcome) -> None:
        if command.key is not None:
            scope = (command.actor, command.key.key)
            self._kept[scope] = self._new[scope] = Kept(command.key.request_hash, _encoder.encode(outcome))

    def ask(self, trip: RoundTrip, groups: Sequence[Group]) -> Callable[[], None]:
        """Ask for what is kept under the groups' and commands' keys; call the result to take it in."""
        wanted = [(group.commands[0].actor, group.key.key) for group in groups if group.key is not None]
        wanted += [(c.actor, c.key.key) for group in groups for c in group.commands if c.key is not None]
        if not wanted:
            return lambda: None
        found = trip.ask(_LOAD, [actor for actor, _ in wanted], [key for _, key in wanted])

        def fetch() -> None:
            for actor, key, request_hash, outcome in found.rows():
                self._kept[actor, key] = Kept(request_hash, outcome)

        return fetch

    def save(self, trip: RoundTrip, now: datetime) -> None:
        """Ask for what was added to be kept."""
        if self._new:
            actors, keys = [actor for actor, _ in self._new], [key for _, key in self._new]
            hashes = [kept.request_hash.hex() for kept in self._new.values()]
            trip.ask(_SAVE, now, actors, keys, hashes, [kept.outcome.decode() for kept in self._new.values()])


def forget(conn: Connection, days: int) -> int:
    """Delete answers older than so many days, a bounded number at a time; returns how many."""
    return conn.execute(_FORGET, [days, MAX_FORGOTTEN]).rowcount
