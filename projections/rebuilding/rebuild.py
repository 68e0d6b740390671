"""Building read models anew from the log beside the live ones, comparing the two, and putting the new in their place.

The service goes on meanwhile. Writers wait for the last few events and the swap, readers for the swap alone; what a
reader sees is the old table or the new one, either whole (DECISIONS.md has the order of locks).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import psycopg

from ledger.store.connection import connect, lock_key
from ledger.store.roundtrip import ask_one, transaction
from projections import inline
from projections.following import projection_runner
from projections.rebuilding.fold import InlineFold
from projections.rebuilding.groups import (
    REST_OF_ONE,
    REST_OF_TWO,
    SETTINGS,
    FollowingFold,
    Pace,
    Part,
    RebuildError,
    advance,
    fold_following,
    head,
    lock_out_others,
)
from projections.rebuilding.shadow_tables import Different, ShadowTables
from projections.worker_process import WorkerProcess

NAMES = (*inline.NAMES, *(model.name for model in projection_runner.MODELS))
CHUNK_ENTRIES = 20_000
# From so many entries on, the models that follow are folded by a process of their own.
BESIDE_ENTRIES = 50_000
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

# A rebuild that was stopped while it holds the log's lock is cut off, and the lock with it.
_GUARD = (
    "SELECT set_config('idle_session_timeout', $1, false), set_config('idle_in_transaction_session_timeout', $1, false)"
)
_LOCK = "SELECT pg_advisory_lock($1)"
_UNLOCK = "SELECT pg_advisory_unlock($1)"
_POSITIONS = "SELECT name, position FROM following WHERE name = ANY($1) ORDER BY name"
_ONE_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ"
_TRANSACTION = "SELECT pg_current_xact_id()::text"
# Whoever waits for an advisory lock has seen nothing yet: its next statement looks anew.
_OLD_SNAPSHOTS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND age(backend_xmin) > age($1::xid8::xid) AND wait_event IS DISTINCT FROM 'advisory'
"""


class Compared(NamedTuple):
    """`different` by table, where there is anything; `behind` are following models that were too far behind to tell."""

    position: int
    different: dict[str, Different]
    behind: list[str]


class Rebuild:
    """New tables of the read models `names`; a context manager that drops what it has made at its end.

    Raises RebuildError when another rebuild of this ledger is at work. The login must own the ledger's tables.
    """

    def __init__(self, url: str, schema: str, names: Sequence[str] = inline.NAMES) -> None:
        self._url, self._schema = url, schema
        self._shadow = ShadowTables(schema)
        # New tables are found first, the log behind them.
        self._path = f"{self._shadow.new},{schema}"
        self._conn = connect(url, self._path, "stockledger rebuild")
        self._conn.prepare_threshold = None  # psycopg would have the server forget our statements after a DROP
        self._following = [model for model in projection_runner.MODELS if model.name in names]
        self._tables = [table for model in inline.MODELS if model.name in names for table in model.tables]
        self._parts: list[Part] = []
        if self._tables:  # those of them that are not asked for are needed to make the others
            self._parts.append(Part("inline", InlineFold(self._conn, self._add_keys), tuple(self._tables)))
        for model in self._following:
            self._parts.append(Part(model.name, FollowingFold(self._conn, model), model.tables))
            self._tables += model.tables
        self._names = [part.name for part in self._parts]
        self._is_finished = False

    @property
    def position(self) -> int:
        """Up to where all new tables show the log."""
        return min(part.position for part in self._parts)

    def __enter__(self) -> "Rebuild":
        try:
            ask_one(self._conn, SETTINGS)
            lock_out_others(self._conn, self._schema)
            self._shadow.drop(self._conn)
            following_tables = [table for model in self._following for table in model.tables]
            self._shadow.create(self._conn, [*inline.TABLES, *following_tables])
            self._shadow.add_keys(self._conn, following_tables)
        except BaseException:
            self._conn.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with self._conn:
            if not self._conn.closed:
                self._shadow.drop(self._conn)

    def _add_keys(self) -> None:
        self._shadow.add_keys(self._conn, inline.TABLES)

    def catch_up(self, on_progress: Callable[[int, int], None] | None = None) -> int:
        """Fold what the log holds now beyond `position`, in chunks; returns the position reached.

        `on_progress` is told after each chunk how far that is, and how far the log has come meanwhile.
        """
        to = head(self._conn)
        follow = [part for part in self._parts if part.name != "inline"]
        if len(follow) == len(self._parts) or not follow or to - self.position <= BESIDE_ENTRIES:
            self._advance(dict.fromkeys(self._names, to), Pace(REST_OF_ONE), on_progress)
            return self.position
        self._advance(
            dict.fromkeys(self._names, max(part.position for part in self._parts)), Pace(REST_OF_ONE)
        )  # equally far
        names = [part.name for part in follow]
        starter = self._conn.info.backend_pid
        work = partial(fold_following, self._url, self._schema, self._path, starter, names, follow[0].position, to)
        with WorkerProcess(work) as worker:
            self._advance(
                {part.name: part.position for part in follow} | {"inline": to}, Pace(REST_OF_TWO), on_progress
            )
            worker.result()
        for part in follow:
            part.position = to
        return self.position

    def compare(self) -> Compared:
        """Compare live and new in one snapshot, at the position of each; writers are not kept waiting."""
        self._finish()
        self._wait_for_follower()
        with transaction(self._conn, _ONE_SNAPSHOT):
            to, followed = head(self._conn), self._followed()
            targets = {part.name: followed.get(part.name, to) for part in self._parts}
            behind = [part.name for part in self._parts if targets[part.name] < part.position]
            self._advance(targets, Pace(0.0))
            tables = [table for part in self._parts if part.name not in behind for table in part.tables]
            found = {table: self._shadow.different(self._conn, table) for table in tables}
        return Compared(to, {table: different for table, different in found.items() if different.rows}, behind)

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
                self._shadow.make_way(self._conn, self._tables)
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
        return any(self.catch_up() + NEARLY_THERE_ENTRIES >= head(self._conn) for _ in range(ROUNDS))

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
                ask_one(self._conn, projection_runner.ADVANCE, model.name, self.position)
            self._shadow.swap(self._conn, self._tables)
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

    def _advance(
        self, targets: dict[str, int], pace: Pace, on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        def after_chunk(to: int) -> None:
            if on_progress is not None:
                on_progress(max(part.position for part in self._parts), to)
                pace.keep(to)

        advance(self._conn, self._parts, targets, after_chunk, CHUNK_ENTRIES)

    def _finish(self) -> None:
        if not self._is_finished:
            self.catch_up()
            self._shadow.finish(self._conn, self._tables)
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
