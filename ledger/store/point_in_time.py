"""Reading the log as it stood: which position a time means, and what a stream or a reservation held up to a position.

Entries up to the head are never changed and none is added among them, so reads at a position need no snapshot: the same
question has the same answer for ever. Everything here is index look-ups; nothing replays the log.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from psycopg.errors import LockNotAvailable

from ledger.caller import seconds_left
from ledger.errors import BusyError
from ledger.facts import Entry
from ledger.state import StateKind
from ledger.store.connection import BoundedConnection, lock_key
from ledger.store.entry_lines import StoredEntry
from ledger.store.hash_chain import BEGINNING
from ledger.store.log import to_entry
from ledger.store.roundtrip import RoundTrip, ask_one

# Entries read at once while a stream's facts are folded.
CHUNK_ENTRIES = 1_000
# Entries looked at for one page of a statement that is filtered by kind of event.
MAX_SCANNED = 10_000
# The kinds of events that are about a reservation, as the index of migration 0005 has them.
RESERVATION_TOPICS = tuple(
    f"{family}{deed}.v1"
    for family in ("Stock", "Item")
    for deed in ("Reserved", "Released", "Purchased", "Returned", "ReservationExtended")
)

_COLUMNS = "notification_id, recorded_at, originator_id, originator_version, topic, state"
_HEAD = "SELECT coalesce(max(notification_id), 0) FROM stored_events"
# No transaction of the ledger lasts for a minute, so a time before that needs no look at what is still under way.
_WAIT_FOR_WRITERS = """
SELECT pg_advisory_xact_lock_shared($2) WHERE $1::timestamptz > clock_timestamp() - interval '1 minute'
"""
_CLOCK = "SELECT clock_timestamp()"
_DIGEST = "SELECT digest FROM stored_events WHERE notification_id = $1"
_AT = "SELECT position_at($1)"
_BEFORE = "SELECT position_at($1::timestamptz - interval '1 microsecond')"
_LAST = f"""
SELECT {_COLUMNS} FROM stored_events
WHERE originator_id = $1 AND notification_id <= $2 ORDER BY notification_id DESC LIMIT 1
"""
_STREAM = f"""
SELECT {_COLUMNS} FROM stored_events
WHERE originator_id = $1 AND notification_id > $2 AND notification_id <= $3 ORDER BY notification_id LIMIT $4
"""
# OFFSET keeps the planner to the reservation's own index: of other ways, it cannot see how long they are.
_RESERVATION = f"""
SELECT * FROM (
    SELECT {_COLUMNS} FROM stored_events
    WHERE topic IN ({", ".join(f"'{topic}'" for topic in RESERVATION_TOPICS)}) AND event_reservation(state) = $1
    OFFSET 0
) AS found
WHERE notification_id > $2 AND notification_id <= $3
ORDER BY notification_id LIMIT $4
"""
# Streams of $1 in one order, after position $2 up to $3: at most $4 looked at, at most $6 of the kinds $5 found.
_STATEMENT = f"""
WITH scanned AS MATERIALIZED (
    SELECT entry.* FROM unnest($1::text[]) AS wanted (stream)
    CROSS JOIN LATERAL (
        SELECT {_COLUMNS} FROM stored_events
        WHERE originator_id = wanted.stream AND notification_id > $2 AND notification_id <= $3
        ORDER BY notification_id {{order}} LIMIT $4
    ) AS entry
    ORDER BY notification_id {{order}} LIMIT $4
)
SELECT scan.count, scan.reached, found.*
FROM (SELECT count(*), {{furthest}}(notification_id) AS reached FROM scanned) AS scan
LEFT JOIN (
    SELECT * FROM scanned WHERE $5::text[] IS NULL OR topic = ANY($5) ORDER BY notification_id {{order}} LIMIT $6
) AS found ON true
ORDER BY found.notification_id {{order}}
"""
_FORWARD = _STATEMENT.format(order="ASC", furthest="max")
_BACKWARD = _STATEMENT.format(order="DESC", furthest="min")

_RANGE = f"""
SELECT {_COLUMNS} FROM stored_events WHERE notification_id > $1 AND notification_id <= $2 ORDER BY notification_id
"""

LONG_AGO = datetime.min.replace(tzinfo=UTC)

S = TypeVar("S")
# Given a position and a limit, the entries after that position.
_More = Callable[[int, int], Sequence[StoredEntry]]


def head(conn: BoundedConnection) -> int:
    """The position of the last entry, 0 for an empty log."""
    ((position,),) = ask_one(conn, _HEAD)
    return int(position)


def digest_at(conn: BoundedConnection, position: int) -> bytes:
    """The chain's digest at a position that is there, or 0 for what is before the first entry."""
    rows = ask_one(conn, _DIGEST, position)
    return bytes(rows[0][0]) if rows else BEGINNING


def position_at(conn: BoundedConnection, schema: str, moment: datetime) -> int | None:
    """The last position recorded at or before a moment, the same for ever; None if the moment is not over yet.

    A transaction under way may have taken an earlier time and commit later, so a recent moment waits until whoever
    holds the log's lock has ended. Raises BusyError when that takes too long.
    """
    trip = RoundTrip(conn)  # one transaction, so the clock is read while the lock is held
    trip.ask(_WAIT_FOR_WRITERS, moment, lock_key(schema, "log"))
    clock = trip.ask(_CLOCK)
    try:
        trip.go()
    except LockNotAvailable:
        raise BusyError from None
    ((now,),) = clock.rows()
    if moment >= now:
        return None
    ((position,),) = ask_one(conn, _AT, moment)
    return int(position)


def position_before(conn: BoundedConnection, moment: datetime) -> int:
    """The last position recorded before a moment, as far as the log goes now."""
    ((position,),) = ask_one(conn, _BEFORE, moment)
    return int(position)


def last_entry(conn: BoundedConnection, stream: str, position: int) -> Entry | None:
    """The stream's last entry at or before a position: one index look-up."""
    rows = ask_one(conn, _LAST, stream, position)
    return to_entry(StoredEntry(*rows[0])) if rows else None


def first_entry(conn: BoundedConnection, stream: str) -> Entry | None:
    rows = ask_one(conn, _STREAM, stream, 0, head(conn), 1)
    return to_entry(StoredEntry(*rows[0])) if rows else None


def fold(conn: BoundedConnection, stream: str, position: int, evolve: Callable[[S | None, Entry], S]) -> S | None:
    """What the stream's facts up to a position make; None before the first. For streams of few facts.

    Raises BusyError when there are so many that the caller does not wait for them.
    """
    return _fold(lambda after, limit: _rows(ask_one(conn, _STREAM, stream, after, position, limit)), evolve)


def fold_reservation(
    conn: BoundedConnection, reservation_id: UUID, position: int, evolve: Callable[[S | None, Entry], S]
) -> S | None:
    """What the facts about a reservation up to a position make; None before the first."""
    return _fold(
        lambda after, limit: _rows(ask_one(conn, _RESERVATION, str(reservation_id).encode(), after, position, limit)),
        evolve,
    )


def entries(conn: BoundedConnection, after: int, upto: int) -> list[Entry]:
    """Entries after a position up to another, of the transaction at hand too."""
    return [to_entry(StoredEntry(*row)) for row in ask_one(conn, _RANGE, after, upto)] if upto > after else []


def state(conn: BoundedConnection, kind: StateKind[Any, Any], key: Any, position: int) -> Any:
    """What there was of a key of one kind of state, right after a position.

    Raises BusyError where it is made of so many facts that the caller does not wait for it.
    """
    if kind.stream_of is None:
        found = fold_reservation(conn, key, position, kind.evolve)
    elif kind.balance is not None:
        last = last_entry(conn, kind.stream_of(key), position)
        found = None if last is None else kind.evolve(kind.absent(key), last)
    else:
        found = fold(conn, kind.stream_of(key), position, kind.evolve)
    return kind.absent(key) if found is None else found


class Statement(NamedTuple):
    """Entries of some streams in order; `cursor` is the position to go on from, None when there is nothing more."""

    entries: list[StoredEntry]
    cursor: int | None


def statement(
    conn: BoundedConnection,
    streams: Sequence[str],
    after: int,
    upto: int,
    limit: int,
    *,
    backward: bool = False,
    names: Sequence[str] | None = None,
) -> Statement:
    """Entries of the streams after position `after` up to `upto`, in the order of the log or backward.

    With `names` only events of those stored names. To find them a bounded number of entries is looked at, so a page may
    be short or empty and still have a cursor.
    """
    scan = limit + 1 if names is None else max(MAX_SCANNED, limit + 1)
    query = _BACKWARD if backward else _FORWARD
    rows = ask_one(conn, query, list(streams), after, upto, scan, names, limit + 1)
    count, reached = rows[0][:2]
    found = [StoredEntry(*row[2:]) for row in rows if row[2] is not None]
    if len(found) > limit:
        return Statement(found[:limit], found[limit - 1].position)
    return Statement(found, reached if count == scan else None)


def _rows(rows: Sequence[Sequence[object]]) -> list[StoredEntry]:
    return [StoredEntry(*row) for row in rows]  # type: ignore[arg-type]  # as _COLUMNS has them


def _fold(more: _More, evolve: Callable[[S | None, Entry], S]) -> S | None:
    state: S | None = None
    for stored in _chunks(more):
        state = evolve(state, to_entry(stored))
    return state


def _chunks(more: _More) -> Iterator[StoredEntry]:
    after = 0
    while chunk := more(after, CHUNK_ENTRIES):
        yield from chunk
        if len(chunk) < CHUNK_ENTRIES:
            return
        if not seconds_left():
            raise BusyError
        after = chunk[-1].position
