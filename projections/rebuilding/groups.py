"""The parts of a rebuild, read models that are folded together, and folding some of them in a process of their own.

That process folds the models that follow while its starter folds the inline ones, and ends with it.
"""

import gc
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import psycopg

from ledger.facts import Entry
from ledger.store.connection import BoundedConnection, connect, lock_key
from ledger.store.log import read
from ledger.store.roundtrip import ask_one, transaction
from projections.following import projection_runner

# Rows of the following models are written once a chunk, so larger ones cost less.
FOLLOWING_ENTRIES = 30_000
# While somebody writes: one process rests half of its time, two three quarters each.
REST_OF_ONE = 1.0
REST_OF_TWO = 3.0
MAX_REST_SECONDS = 3.0

SETTINGS = """
SELECT set_config('statement_timeout', '0', false), set_config('idle_in_transaction_session_timeout', '60s', false),
    set_config('work_mem', '64MB', false), set_config('maintenance_work_mem', '256MB', false),
    set_config('synchronous_commit', 'off', false)
"""
HEAD = "SELECT coalesce(max(notification_id), 0) FROM stored_events"
_LOCK = "SELECT pg_advisory_lock($1)"
_STARTER = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = $1"


class RebuildError(Exception):
    """The rebuild cannot go on; what is live is as it was."""


class Fold(Protocol):
    """Carries entries into the new tables."""

    def fold(self, entries: Sequence[Entry]) -> None: ...

    def flush(self) -> None: ...


class FollowingFold:
    def __init__(self, conn: BoundedConnection, model: projection_runner.Model) -> None:
        self._conn, self._model = conn, model

    def fold(self, entries: Sequence[Entry]) -> None:
        with transaction(self._conn):
            self._model.apply(self._conn, entries)

    def flush(self) -> None:
        """Nothing is kept in memory."""


class Part:
    """Read models that are folded together: `position` is how far they are."""

    def __init__(self, name: str, fold: Fold, tables: Sequence[str]) -> None:
        self.name, self.tables = name, tables
        self.position = 0
        self._fold = fold

    def advance(self, entries: Sequence[Entry]) -> None:
        try:
            self._fold.fold(entries)
        except (psycopg.OperationalError, psycopg.InterfaceError):
            raise
        except Exception as error:
            span = f"{entries[0].position} to {entries[-1].position}"
            raise RebuildError(f"{self.name} cannot apply an event at one of the positions {span}: {error}") from error
        self.position = entries[-1].position

    def flush(self) -> None:
        self._fold.flush()


class Pace:
    """Leaves a share of the time to writers while there are any: `rest` is how long that is, in times of the work."""

    def __init__(self, rest: float) -> None:
        self._rest = rest
        self._head = 0
        self._worked_since = time.monotonic()

    def keep(self, head: int) -> None:
        """After each chunk; `head` is how far the log has come meanwhile."""
        if self._head and head > self._head:
            time.sleep(min(self._rest * (time.monotonic() - self._worked_since), MAX_REST_SECONDS))
        self._head = head
        self._worked_since = time.monotonic()


def advance(
    conn: BoundedConnection,
    parts: Sequence[Part],
    targets: dict[str, int],
    after_chunk: Callable[[int], None],
    chunk: int,
) -> None:
    """Fold each part up to its target; parts that are equally far share what is read.

    `after_chunk` is told the log's head.
    """
    while late := [part for part in parts if part.position < targets[part.name]]:
        start = min(part.position for part in late)
        group = [part for part in late if part.position == start]
        ends = [targets[part.name] for part in group] + [part.position for part in late if part not in group]
        entries = read(conn, start, min(chunk, min(ends) - start))
        if not entries:
            raise RebuildError(f"the log has no entry after position {start}, though it goes further")
        for part in group:
            part.advance(entries)
        after_chunk(head(conn))
    for part in parts:
        part.flush()


def head(conn: BoundedConnection) -> int:
    ((position,),) = ask_one(conn, HEAD)
    return int(position)


def lock_out_others(conn: BoundedConnection, schema: str) -> None:
    """For as long as the connection lives. One that was closed a moment ago may take another to end.

    Raises RebuildError. Then no process of a rebuild before is at work, and one that comes too late finds no starter.
    """
    try:
        ask_one(conn, _LOCK, lock_key(schema, "rebuild"))
        ask_one(conn, _LOCK, lock_key(schema, "rebuild beside"))
        ask_one(conn, "SELECT pg_advisory_unlock($1)", lock_key(schema, "rebuild beside"))
    except psycopg.errors.LockNotAvailable:
        raise RebuildError("another rebuild of this ledger is at work") from None


def fold_following(url: str, schema: str, path: str, starter: int, names: Sequence[str], start: int, to: int) -> None:
    """Fold models that follow, from one position up to another, into the tables that `path` finds first.

    `starter` is the server's process that holds the lock of the rebuild: without it nothing is written.
    Raises RebuildError.
    """
    gc.disable()  # what is kept in memory holds no cycles
    try:
        with connect(url, path, "stockledger rebuild") as conn:
            conn.prepare_threshold = None
            ask_one(conn, SETTINGS)
            ask_one(conn, _LOCK, lock_key(schema, "rebuild beside"))
            if ask_one(conn, _STARTER, starter)[0][0] == 0:
                raise RebuildError("the rebuild that this is for has ended")
            models = {model.name: model for model in projection_runner.MODELS}
            parts = [Part(name, FollowingFold(conn, models[name]), ()) for name in names]
            for part in parts:
                part.position = start
            advance(conn, parts, dict.fromkeys(names, to), Pace(REST_OF_TWO).keep, FOLLOWING_ENTRIES)
    except Exception as error:  # of whatever kind: what is sent to the starter has to be taken apart
        raise RebuildError(str(error)) from error
