"""What is kept of requests with an Idempotency-Key, written in the transaction of the events that they recorded.

After draft-ietf-httpapi-idempotency-key-header-07: the same key with the same request gets the first answer, with
another request it is refused. Refusals are not kept. Kept is the place in the log, from which the answer is made again
(`ledger.engine.replay`); rows of before migration 0012 hold the answer itself.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from ledger.commands import Command, Group, Key
from ledger.errors import KeyReusedError
from ledger.outcome import Outcome
from ledger.store.connection import Connection
from ledger.store.roundtrip import RoundTrip

# Of a digest this much is kept: two of a thousand million keys are alike with a chance of one in 10^20.
KEPT_BYTES = 16

_LOAD = "SELECT scope, request, position, recorded FROM idempotent_requests WHERE scope = ANY($1::uuid[])"
_LOAD_BEFORE = """
SELECT k.actor, k.key, k.request_hash, k.outcome
FROM unnest($1::text[], $2::text[]) AS wanted (actor, key)
JOIN idempotency_keys AS k USING (actor, key)
"""
_SAVE = """
INSERT INTO idempotent_requests (position, created_at, recorded, scope, request)
SELECT position, $1, recorded, scope, request
FROM unnest($2::bigint[], $3::integer[], $4::uuid[], $5::uuid[]) AS new (position, recorded, scope, request)
"""

_FORGET = (
    """
DELETE FROM idempotent_requests WHERE scope IN (
    SELECT scope FROM idempotent_requests WHERE created_at < clock_timestamp() - make_interval(days => %s) LIMIT %s
)
""",
    """
DELETE FROM idempotency_keys WHERE (actor, key) IN (
    SELECT actor, key FROM idempotency_keys
    WHERE created_at < clock_timestamp() - make_interval(days => %s) ORDER BY created_at LIMIT %s
)
""",
)
# Keys forgotten in one statement, which locks nothing that a command waits for.
MAX_FORGOTTEN = 10_000


class Kept(msgspec.Struct, frozen=True):
    """`recorded` entries, the last at `position`; the answer is made of them unless it is here.

    `answer` is the outcome itself of a request of this very transaction, or its JSON as it was kept formerly.
    """

    request: bytes
    position: int = 0
    recorded: int = 0
    answer: Outcome | bytes | None = None


class Answers:
    """What is kept that one transaction may meet, and what it adds."""

    def __init__(self) -> None:
        self._kept: dict[UUID, Kept] = {}
        self._new: dict[UUID, Kept] = {}

    def __bool__(self) -> bool:
        return bool(self._new)

    def copy(self) -> "Answers":
        """The same answers, to go on from or to go back to."""
        copy = Answers()
        copy._kept, copy._new = dict(self._kept), dict(self._new)
        return copy

    def find(self, command: Command) -> Kept | None:
        """What is kept of the first request with this key; raises KeyReusedError if that was another request."""
        return None if command.key is None else self._find(command.actor, command.key)

    def check(self, group: Group) -> None:
        """Raises KeyReusedError if the group's key came with another request before."""
        if group.key is not None:
            self._find(group.commands[0].actor, group.key)

    def mark(self, group: Group, position: int) -> None:
        """Keep the key of a group, of which each command keeps its own answer."""
        if group.key is not None and scope_of(group.commands[0].actor, group.key.key) not in self._kept:
            self._keep(group.commands[0].actor, group.key, Kept(_short(group.key.request_hash), position))

    def keep(self, command: Command, outcome: Outcome, recorded: int) -> None:
        """Keep that a command was carried out, with so many entries."""
        if command.key is not None:
            request = _short(command.key.request_hash)
            self._keep(command.actor, command.key, Kept(request, outcome.position, recorded, outcome))

    def _find(self, actor: str, key: Key) -> Kept | None:
        kept = self._kept.get(scope_of(actor, key.key))
        if kept is not None and not key.request_hash.startswith(kept.request):
            raise KeyReusedError(key.key)
        return kept

    def _keep(self, actor: str, key: Key, kept: Kept) -> None:
        scope = scope_of(actor, key.key)
        self._kept[scope] = self._new[scope] = kept

    def ask(self, trip: RoundTrip, groups: Sequence[Group]) -> Callable[[], None]:
        """Ask for what is kept under the groups' and commands' keys; call the result to take it in."""
        wanted = [(group.commands[0].actor, group.key.key) for group in groups if group.key is not None]
        wanted += [(c.actor, c.key.key) for group in groups for c in group.commands if c.key is not None]
        if not wanted:
            return lambda: None
        found = trip.ask(_LOAD, [scope_of(actor, key) for actor, key in wanted])
        before = trip.ask(_LOAD_BEFORE, [actor for actor, _ in wanted], [key for _, key in wanted])

        def fetch() -> None:
            for actor, key, request_hash, outcome in before.rows():
                self._kept[scope_of(actor, key)] = Kept(request_hash, answer=outcome)
            for scope, request, position, recorded in found.rows():
                self._kept[scope] = Kept(request.bytes, position, recorded)

        return fetch

    def save(self, trip: RoundTrip, now: datetime) -> None:
        """Ask for what was added to be kept."""
        if self._new:
            kept = self._new.values()
            positions, counts = [str(each.position) for each in kept], [str(each.recorded) for each in kept]
            trip.ask(_SAVE, now, positions, counts, list(self._new), [UUID(bytes=each.request) for each in kept])


def scope_of(actor: str, key: str) -> UUID:
    """One caller's keys never meet another's: an actor holds no NUL."""
    return UUID(bytes=hashlib.blake2b(f"{actor}\0{key}".encode(), digest_size=KEPT_BYTES).digest())


def _short(request_hash: bytes) -> bytes:
    return request_hash[:KEPT_BYTES].ljust(KEPT_BYTES, b"\0")


def forget(conn: Connection, days: int) -> int:
    """Delete what is older than so many days, a bounded number at a time; returns how many."""
    return max(conn.execute(statement.encode(), [days, MAX_FORGOTTEN]).rowcount for statement in _FORGET)
