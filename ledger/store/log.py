"""The log in PostgreSQL: its lock, its head, appending to it and reading it in order."""

from collections.abc import Callable, Sequence
from datetime import datetime

from ledger.events import Entry
from ledger.store.connection import Connection, lock_key
from ledger.store.mapper import to_event, to_stored
from ledger.store.recorder import LedgerDatastore, LedgerRecorder

MAX_READ_ENTRIES = 10_000

_LOCK = "SELECT pg_advisory_xact_lock(%s)"
# The later of the clock and the last entry's time: a clock that is set back does not make the log run backwards.
_HEAD = """
SELECT greatest(clock_timestamp(), max(recorded_at)), coalesce(max(notification_id), 0)
FROM (SELECT notification_id, recorded_at FROM stored_events ORDER BY notification_id DESC LIMIT 1) AS last
"""
_WITNESS = """
SELECT originator_id, originator_version, topic, state, recorded_at FROM stored_events WHERE notification_id = %s
"""
_READ = """
SELECT notification_id, recorded_at, originator_id, originator_version, topic, state
FROM stored_events WHERE notification_id > %s ORDER BY notification_id LIMIT %s
"""

Head = tuple[datetime, int]


class Log:
    """One ledger's log. Writers hold its lock for the whole of their transaction, so commits are in order."""

    def __init__(self, url: str, schema: str) -> None:
        self._recorder = LedgerRecorder(LedgerDatastore(url, schema))
        self._lock_key = lock_key(schema, "log")

    def adapt(self, conn: Connection) -> None:
        """Prepare a connection for appending; the schema must be migrated."""
        self._recorder.adapt(conn)

    def ask_lock_and_head(self, conn: Connection) -> Callable[[], Head]:
        """Queue taking the lock and reading the time (UTC) and last position behind it; call the result to fetch."""
        conn.execute(_LOCK, [self._lock_key])
        cursor = conn.execute(_HEAD)

        def fetch() -> Head:
            row = cursor.fetchone()
            assert row is not None, "an aggregate has a row"
            return row[0], row[1]

        return fetch

    def lock(self, conn: Connection) -> None:
        """Take the lock for the transaction that is open on `conn`."""
        conn.execute(_LOCK, [self._lock_key])

    def append(self, conn: Connection, entries: Sequence[Entry]) -> None:
        """Queue entries, all of one transaction and in order; the caller holds the lock."""
        first = entries[0]
        stored = [to_stored(entry) for entry in entries]
        self._recorder.append(conn, stored, position=first.position - 1, recorded_at=first.recorded_at)

    def holds(self, conn: Connection, entry: Entry) -> bool:
        """Whether just this entry is in the log: same place, time, and bytes."""
        stored = to_stored(entry)
        row = conn.execute(_WITNESS, [entry.position]).fetchone()
        wanted = (stored.originator_id, stored.originator_version, stored.topic, stored.state, entry.recorded_at)
        return row is not None and (*row[:3], bytes(row[3]), row[4]) == wanted


def read(conn: Connection, after: int, limit: int = MAX_READ_ENTRIES) -> list[Entry]:
    """The next entries after position `after`, in order; fewer than `limit` at the end of the log.

    Raises UnreadableEventError for an event that this version of the service does not know.
    """
    rows = conn.execute(_READ, [after, limit]).fetchall()
    return [
        Entry(position, recorded_at, stream, version, to_event(topic, bytes(state)))
        for position, recorded_at, stream, version, topic, state in rows
    ]
