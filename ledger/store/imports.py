"""How far each file has been imported: one row a file, moved on in the transaction of the events its rows became.

So a file is imported once whatever is killed when: who goes on with it begins where this row says.
"""

from datetime import datetime

import psycopg
from msgspec import Struct

from ledger.store.connection import BoundedConnection, lock_key
from ledger.store.roundtrip import RoundTrip, ask_one

# The session's lock, not a transaction's: once it is had, a transaction that the lost connection of the one before
# still had open has ended, and the row below says what became of it.
_CLAIM = "SELECT pg_advisory_lock($1)"
_LOAD = "SELECT settled, rejected, events, rejects_bytes, finished_at FROM imports WHERE import_id = $1"
# A power cut may undo the last moments of an unfinished import, its rows here and its events alike; nobody has been
# told of them yet. Whoever commits after them, or finishes the import, makes them durable too.
_NEED_NOT_WAIT = "SELECT set_config('synchronous_commit', 'off', true)"
_SAVE = """
INSERT INTO imports (import_id, file, meaning, settled, rejected, events, rejects_bytes, updated_at)
VALUES ($1, $2, $3::jsonb, $4, $5, $6, $7, clock_timestamp())
ON CONFLICT (import_id) DO UPDATE SET
    file = excluded.file,
    settled = excluded.settled,
    rejected = excluded.rejected,
    events = excluded.events,
    rejects_bytes = excluded.rejects_bytes,
    updated_at = excluded.updated_at,
    finished_at = NULL
"""
_FINISH = "UPDATE imports SET finished_at = clock_timestamp() WHERE import_id = $1"


class Import(Struct, frozen=True):
    """`meaning` is a JSON object: what the rows of the file are taken to mean."""

    import_id: str
    file: str
    meaning: str


class Progress(Struct, frozen=True):
    """So many rows are settled, so many of them rejected; `rejects_bytes` of the file of rejects belong to them."""

    settled: int = 0
    rejected: int = 0
    events: int = 0
    rejects_bytes: int = 0
    finished_at: datetime | None = None


def claim(conn: BoundedConnection, schema: str, import_id: str) -> bool:
    """Make the import this connection's for as long as it lives; False when another's is at it."""
    try:
        ask_one(conn, _CLAIM, lock_key(schema, f"import/{import_id}"))
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def load(conn: BoundedConnection, import_id: str) -> Progress | None:
    """How far the import is; None if it was never begun."""
    rows = ask_one(conn, _LOAD, import_id)
    return Progress(*rows[0]) if rows else None


def save(trip: RoundTrip, which: Import, progress: Progress) -> None:
    """Ask for progress to be written in the transaction at hand, which then is not waited for to be on disk."""
    trip.ask(_NEED_NOT_WAIT)
    counts = progress.settled, progress.rejected, progress.events, progress.rejects_bytes
    trip.ask(_SAVE, which.import_id, which.file, which.meaning, *counts)


def restart(conn: BoundedConnection, which: Import) -> None:
    """Begin anew with a file that was finished."""
    trip = RoundTrip(conn)
    save(trip, which, Progress())
    trip.go()


def finish(conn: BoundedConnection, import_id: str) -> None:
    """Write down that no row is left; all that was recorded is on disk by then."""
    ask_one(conn, _FINISH, import_id)
