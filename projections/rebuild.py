"""Building read models anew from the log beside the live ones, comparing the two, and putting the new in their place.

The service goes on meanwhile. Writers wait for the last few events and the swap, readers for the swap alone; what a
reader sees is the old table or the new one, either whole (DECISIONS.md has the order of locks).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import psycopg

from ledger.events import Entry
from ledger.store.connection import BoundedConnection, connect, lock_key
from ledger.store.log import read
from ledger.store.roundtrip import ask_one, transaction
from projections import following, inline
from projections.fold import InlineFold
from projections.scratch import Different, Scratch

NAMES = (*inline.MODELS, *(model.name for model in following.MODELS))
CHUNK_ENTRIES = 10_000
# What is left to be folded while writers wait: they begin to wait when less than this is.
NEARLY_THERE_ENTRIES = 500
ROUNDS = 20
# For how long the follower may take to get as far as the new tables are, so that the two can be compared.
FOLLOWER_SECONDS = 10.0
POLL_SECONDS = 0.02
# For as long as somebody reads in a transaction that began before the new tables were complete, they cannot be put in
# place; each attempt keeps writers waiting, so it is short and followed by a rest.
ATTEMPT_SECONDS = 0.2
ATTEMPTS = 300
REST_SECONDS = 1.0

_SETTINGS = """
SELECT set_config('statement_timeout', '0', false), set_config('idle_in_transaction_session_timeout', '60s', false),
    set_config('work_mem', '64MB', false), set_config('maintenance_work_mem', '256MB', false),
    set_config('synchronous_commit', 'off', false)
"""
# A rebuild that was stopped while it holds the log's lock is cut off, and the lock with it.
_GUARD = (
    "SELECT set_config('idle_session_timeout', $1, false), set_config('idle_in_transaction_session_timeout', $1, false)"
)
_LOCK = "SELECT pg_advisory_lock($1)"
_UNLOCK = "SELECT pg_advisory_unlock($1)"
_HEAD = "SELECT coalesce(max(notification_id), 0) FROM stored_events"
_POSITIONS = "SELECT name, position FROM following WHERE name = ANY($1) ORDER BY name"
_ONE_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ"
_TRANSACTION = "SELECT pg_current_xact_id()::text"
# Whoever waits for an advisory lock has seen nothing yet: its next statement looks anew.
_OLD_SNAPSHOTS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND age(backend_xmin) > age($1::xid8::xid) AND wait_event IS DISTINCT FROM 'advisory'
"""


class RebuildError(Exception):
    """The rebuild cannot go on; what is live is as it was."""


class Compared(NamedTuple):
    """`different` by table, where there is anything; `behind` are following models that were too far behind to tell."""

    position: int
    different: dict[str, Different]
    behind: list[str]


class _Fold(Protocol):
    """Carries entries into the new tables."""

    def fold(self, entries: Sequence[Entry]) -> None: ...

    def flush(self) -> None: ...


class _FollowingFold:
    def __init__(self, conn: BoundedConnection, model: following.Model) -> None:
        self._conn, self._model = conn, model

    def fold(self, entries: Sequence[Entry]) -> None:
        with transaction(self._conn):
            self._model.apply(self._conn, entries)

    def flush(self) -> None:
        """Nothing is kept in memory."""


class _Part:
    """Read models that are folded together: `position` is how far they are."""

    def __init__(self, name: str, fold: _Fold, tables: Sequence[str]) -> None:
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


class Rebuild:
    """New tables of the read models `names`; a context manager that drops what it has made at its end.

    Raises RebuildError when another rebuild of this ledger is at work. The login must own the ledger's tables.
    """

    def __init__(self, url: str, schema: str, names: Sequence[str] = tuple(inline.MODELS)) -> None:
        self._schema = schema
        self._scratch = Scratch(schema)
        # New tables are found first, the log behind them.
        self._conn = connect(url, f"{self._scratch.new},{schema}", "stockledger rebuild")
        self._conn.prepare_threshold = None  # psycopg would have the server forget our statements after a DROP
        self._following = [model for model in following.MODELS if model.name in names]
        self._tables = [table for name in inline.MODELS if name in names for table in inline.MODELS[name]]
        self._parts: list[_Part] = []
        if self._tables:  # those of them that are not asked for are needed to make the others
            self._parts.append(_Part("inline", InlineFold(self._conn), tuple(self._tables)))
        for model in self._following:
            self._parts.append(_Part(model.name, _FollowingFold(self._conn, model), model.tables))
            self._tables += model.tables
        self._is_finished = False

    @property
    def position(self) -> int:
        """Up to where all new tables show the log."""
        return min(part.position for part in self._parts)

    def __enter__(self) -> "Rebuild":
        try:
            ask_one(self._conn, _SETTINGS)
            self._lock_out_others()
            self._scratch.drop(self._conn)
            self._scratch.create(self._conn, [*inline.TABLES, *(t for m in self._following for t in m.tables)])
        except BaseException:
            self._conn.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with self._conn:
            if not self._conn.closed:
                self._scratch.drop(self._conn)

    def _lock_out_others(self) -> None:
        """For as long as the connection lives. One that was closed a moment ago may take another to end."""
        try:
            ask_one(self._conn, _LOCK, lock_key(self._schema, "rebuild"))
        except psycopg.errors.LockNotAvailable:
            raise RebuildError("another rebuild of this ledger is at work") from None

    def catch_up(self, on_progress: Callable[[int, int], None] | None = None) -> int:
        """Fold what the log holds now beyond `position`, in chunks; returns the position reached.

        `on_progress` is told after each chunk how far that is, and how far the log has come meanwhile.
        """
        head = self._head()
        self._advance({part.name: head for part in self._parts}, on_progress)
        return self.position

    def compare(self) -> Compared:
        """Compare live and new in one snapshot, at the position of each; writers are not kept waiting."""
        self._finish()
        self._wait_for_follower()
        with transaction(self._conn, _ONE_SNAPSHOT):
            head, followed = self._head(), self._followed()
            targets = {part.name: followed.get(part.name, head) for part in self._parts}
            behind = [part.name for part in self._parts if targets[part.name] < part.position]
            self._advance(targets)
            tables = [table for part in self._parts if part.name not in behind for table in part.tables]
            found = {table: self._scratch.different(self._conn, table) for table in tables}
        return Compared(head, {table: different for table, different in found.items() if different.rows}, behind)

    def differences(self) -> dict[str, int]:
        """Rows that differ, by table; empty when live and new are equal."""
        return {table: different.rows for table, different in self.compare().different.items()}

    def swap(self) -> int:
        """Put the new tables in the place of the live ones; returns their position.

        Raises RebuildError when somebody's long transaction is in the way for minutes, or a flood of writes.
        """
        self._finish()
        for _ in range(ATTEMPTS):
            try:
                self._scratch.make_way(self._conn, self._tables)
                if self._is_nearly_there():
                    with self._writers_waiting():
                        if self._swap():
                            return self.position
            except psycopg.errors.LockNotAvailable:
                pass
            time.sleep(REST_SECONDS)
        raise RebuildError(
            "the new tables cannot be put in place: a long transaction is in the way, or the log grows too fast"
        )

    def _is_nearly_there(self) -> bool:
        """Whether it has come so close to the log's end that writers can be made to wait for the rest."""
        return any(self.catch_up() + NEARLY_THERE_ENTRIES >= self._head() for _ in range(ROUNDS))

    def _swap(self) -> bool:
        """Whether it was done; it is not while others read in older snapshots, to which new rows do not exist."""
        self.catch_up()
        ((complete_since,),) = ask_one(self._conn, _TRANSACTION)
        until = time.monotonic() + ATTEMPT_SECONDS
        while ask_one(self._conn, _OLD_SNAPSHOTS, complete_since)[0][0]:
            if time.monotonic() > until:
                return False
            time.sleep(POLL_SECONDS / 10)
        with transaction(self._conn):
            for model in self._following:  # its row is what a follower locks first, too
                ask_one(self._conn, following.ADVANCE, model.name, self.position)
            self._scratch.swap(self._conn, self._tables)
        return True

    @contextmanager
    def _writers_waiting(self) -> Iterator[None]:
        key = lock_key(self._schema, "log")
        ask_one(self._conn, _GUARD, "3s")
        ask_one(self._conn, _LOCK, key)
        try:
            yield
        finally:
            if not self._conn.closed:
                ask_one(self._conn, _UNLOCK, key)
                ask_one(self._conn, _GUARD, "60s")

    def _advance(self, targets: dict[str, int], on_progress: Callable[[int, int], None] | None = None) -> None:
        """Fold each part up to its target; parts that are equally far share what is read."""
        while late := [part for part in self._parts if part.position < targets[part.name]]:
            start = min(part.position for part in late)
            group = [part for part in late if part.position == start]
            ends = [targets[part.name] for part in group] + [part.position for part in late if part not in group]
            entries = read(self._conn, start, min(CHUNK_ENTRIES, min(ends) - start))
            if not entries:
                raise RebuildError(f"the log has no entry after position {start}, though it goes further")
            for part in group:
                part.advance(entries)
            if on_progress is not None:
                on_progress(self.position, self._head())
        for part in self._parts:
            part.flush()

    def _finish(self) -> None:
        if not self._is_finished:
            self.catch_up()
            self._scratch.finish(self._conn, self._tables)
            self._is_finished = True

    def _wait_for_follower(self) -> None:
        until = time.monotonic() + FOLLOWER_SECONDS
        waiting = {part.name: part.position for part in self._parts if part.name != "inline"}
        while any(self._followed()[name] < position for name, position in waiting.items()):
            if time.monotonic() > until:
                return
            time.sleep(POLL_SECONDS)

    def _followed(self) -> dict[str, int]:
        """How far each live following model is."""
        found: dict[str, int] = dict.fromkeys((model.name for model in self._following), 0)
        found.update(ask_one(self._conn, _POSITIONS, list(found)) if found else [])
        return found

    def _head(self) -> int:
        ((head,),) = ask_one(self._conn, _HEAD)
        return int(head)
