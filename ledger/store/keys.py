"""API keys in the database: as hashes, with their scopes and their end.

What never lives here: the keys themselves, who asks for which scope.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import psycopg
from msgspec import Struct

from ledger.store.connection import Connection

# Each HTTP process holds all live keys, and reads them every second.
MAX_LIVE_KEYS = 1_000
NOT_ALLOWED = "this login may not: keys are made and revoked by one that owns the schema"

_ALIVE = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())"
_LIVE = f"""
SELECT id, name, hash, scopes, extract(epoch FROM expires_at - clock_timestamp())::float8
FROM api_keys WHERE {_ALIVE} ORDER BY id LIMIT {MAX_LIVE_KEYS}
"""
_ALL = """
SELECT name, scopes, created_at, expires_at, revoked_at, last_used_at, expires_at <= clock_timestamp()
FROM api_keys ORDER BY name
"""
_CREATE = f"""
INSERT INTO api_keys (name, hash, scopes, expires_at)
SELECT %s, %s, %s, coalesce(%s, clock_timestamp() + %s)
WHERE (SELECT count(*) FROM api_keys WHERE {_ALIVE}) < {MAX_LIVE_KEYS}
RETURNING expires_at, expires_at <= clock_timestamp()
"""
_REVOKE = """
UPDATE api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE name = %s RETURNING revoked_at
"""
# A key that another process writes at this moment is used now, too: neither has to wait for the other.
_USED = """
WITH used AS (
    SELECT k.id, clock_timestamp() - make_interval(secs => u.ago) AS at
    FROM unnest(%s::integer[], %s::float8[]) AS u (id, ago) JOIN api_keys AS k USING (id)
    FOR NO KEY UPDATE OF k SKIP LOCKED
)
UPDATE api_keys AS k SET last_used_at = greatest(k.last_used_at, used.at) FROM used WHERE k.id = used.id
"""


class KeyRefusedError(Exception):
    """A key cannot be made or revoked as asked; the text is one line that says why."""


class LiveKey(Struct, frozen=True):
    """`seconds_left` until it ends by the database's clock, None: never."""

    id: int
    name: str
    hash: bytes
    scopes: frozenset[str]
    seconds_left: float | None


class KeptKey(Struct, frozen=True):
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    state: str


def live(conn: Connection) -> list[LiveKey]:
    """All keys that are neither revoked nor over."""
    rows = conn.execute(_LIVE.encode()).fetchall()
    return [LiveKey(id, name, bytes(hash), frozenset(scopes), left) for id, name, hash, scopes, left in rows]


def write_used(conn: Connection, seconds_ago: Mapping[int, float]) -> None:
    """Note when keys, by id, were used last."""
    conn.execute(_USED, [list(seconds_ago), list(seconds_ago.values())])


def create(
    conn: Connection, name: str, hash: bytes, scopes: Sequence[str], expires: datetime | timedelta | None
) -> datetime | None:
    """Keep a new key, which ends at a time or after a while by the database's clock; returns when, if ever.

    Raises KeyRefusedError for a name that was given before, an end that is past, and more than MAX_LIVE_KEYS.
    """
    at, after = (expires, None) if isinstance(expires, datetime) else (None, expires)
    try:
        with conn.transaction():
            made = conn.execute(_CREATE, [name, hash, list(scopes), at, after]).fetchone()
            if made is not None and made[1]:
                raise KeyRefusedError(f"its end, {made[0].isoformat()}, is past")
    except psycopg.errors.UniqueViolation:
        raise KeyRefusedError(f"the name {name!r} was given before, and the log may name it") from None
    except psycopg.errors.InsufficientPrivilege:
        raise KeyRefusedError(NOT_ALLOWED) from None
    if made is None:
        raise KeyRefusedError(f"there are {MAX_LIVE_KEYS} keys: revoke one first")
    expires_at: datetime | None = made[0]
    return expires_at


def revoke(conn: Connection, name: str) -> datetime:
    """End a key now, or say when it was revoked; raises KeyRefusedError when there is none of that name."""
    try:
        revoked = conn.execute(_REVOKE, [name]).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        raise KeyRefusedError(NOT_ALLOWED) from None
    if revoked is None:
        raise KeyRefusedError(f"there is no key {name!r}")
    revoked_at: datetime = revoked[0]
    return revoked_at


def every(conn: Connection) -> list[KeptKey]:
    """All keys there ever were, by name."""
    return [
        KeptKey(name, scopes, created, expires, revoked, used, _state(revoked is not None, over is True))
        for name, scopes, created, expires, revoked, used, over in conn.execute(_ALL).fetchall()
    ]


def _state(revoked: bool, over: bool) -> str:
    return "revoked" if revoked else "expired" if over else "live"
