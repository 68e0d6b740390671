"""The log in PostgreSQL: its lock, its head, appending to it and reading it in order."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from ledger.facts import Entry
from ledger.store.connection import BoundedConnection, Connection, lock_key
from ledger.store.durability import wait_for_standbys
from ledger.store.entry_lines import StoredEntry
from ledger.store.mapper import to_event, to_stored
from ledger.store.recorder import HEAD, LedgerDatastore, LedgerRecorder
from ledger.store.roundtrip import RoundTrip, ask_one

MAX_READ_ENTRIES = 10_000

_LOCK = "SELECT pg_advisory_xact_lock($1)"
_WITNESS = """
SELECT originator_id, originator_version, topic, state, recorded_at FROM stored_events WHERE notification_id = $1
"""
_READ = """
SELECT notification_id, recorded_at, originator_id, originator_version, topic, state
FROM stored_events WHERE notification_id > %s ORDER BY notification_id LIMIT %s
"""


class Head(NamedTuple):
    """The time (UTC) under the lock, the last position and digest, and whether a commit waits for standbys."""

    now: datetime
    position: int
    digest: bytes
    has_standbys: bool


class Log:
    """One ledger's log. Writers hold its lock for the whole of their transaction, so commits are in order."""

    def __init__(self, url: str, schema: str) -> None:
        self._recorder = LedgerRecorder(LedgerDatastore(url, schema))
        self._lock_key = lock_key(schema, "log")

    def ask_lock_and_head(self, trip: RoundTrip) -> Callable[[], Head]:
        """Ask for the lock, and behind it for the head of the log; call the result to have it."""
        trip.ask(_LOCK, self._lock_key)
        head = trip.ask(HEAD)

        def fetch() -> Head:
            (row,) = head.rows()
            return Head(*row)

        return fetch

    def append(self, trip: RoundTrip, entries: Sequence[Entry], before: bytes) -> bytes:
        """Ask for entries to be appended, all of one transaction and in order; the caller holds the lock.

        `before` is the digest of the entry before the first; returns that of the last.
        """
        first = entries[0]
        stored = [to_stored(entry) for entry in entries]
        return self._recorder.append(
            trip, stored, position=first.position - 1, recorded_at=first.recorded_at, before=before
        )

    def holds(self, conn: BoundedConnection, entry: Entry) -> bool:
        """Whether just this entry is in the log: same place, time, and bytes.

        Takes the lock first, so a transaction that the server still works on has ended by then. What is found is as
        durable as a commit when this returns. Raises psycopg.Error when that cannot be told.
        """
        trip = RoundTrip(conn)
        trip.ask(_LOCK, self._lock_key)
        head = trip.ask(HEAD)
        trip.go()
        stored = to_stored(entry)
        wanted = (stored.originator_id, stored.originator_version, stored.topic, stored.state, entry.recorded_at)
        is_there = ask_one(conn, _WITNESS, entry.position) == [wanted]
        if is_there and Head(*head.rows()[0]).has_standbys:
            wait_for_standbys(conn)
        return is_there


def read_stored(conn: Connection, after: int, limit: int = MAX_READ_ENTRIES) -> list[StoredEntry]:
    """The next entries after position `after`, in order; fewer than `limit` at the end of the log."""
    return [StoredEntry(*row) for row in conn.execute(_READ, [after, limit])]


def read(conn: Connection, after: int, limit: int = MAX_READ_ENTRIES) -> list[Entry]:
    """The same, decoded; raises UnreadableEventError for an event that this version of the service does not know."""
    rows = conn.cursor(binary=True).execute(_READ, [after, limit]).fetchall()  # in half the time of text
    return [Entry(at, time, stream, version, to_event(name, state)) for at, time, stream, version, name, state in rows]


def to_entry(stored: StoredEntry) -> Entry:
    """Raises UnreadableEventError for an event that this version of the service does not know."""
    event = to_event(stored.name, stored.state)
    return Entry(stored.position, stored.recorded_at, stored.stream, stored.version, event)
