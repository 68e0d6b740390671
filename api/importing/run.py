"""`stockledger import`: products and movements from files, each row once, whatever is killed on the way.

A chunk of rows is one transaction, which also says how far the import is (`ledger/store/imports.py`). The next chunk is
read while the database works on the one before.
"""

import gc
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from typing import Never

import psycopg
from msgspec import structs
from tqdm import tqdm

from api.http.problems import PROBLEMS
from api.importing.files import move
from api.importing.options import ImportOptions
from api.importing.plan import Ahead, Chunk, Step, chunks, opening
from api.importing.rejects import Rejected
from ledger.commands import Group
from ledger.engine.batch import APPEND_ENTRIES, Batch, Result
from ledger.errors import LedgerError
from ledger.rooms import ROOMS
from ledger.store import imports
from ledger.store.connection import BoundedConnection, connect
from ledger.store.imports import Progress
from ledger.store.log import Log
from ledger.store.roundtrip import RoundTrip
from projections.inline import InlineReadModels

ANSWER_SECONDS = 30.0
# How long an import goes on trying when the database is away, and its pause between tries.
AWAY_SECONDS = 60.0
PAUSE_SECONDS = 1.0
# Rows become millions of objects that live for a moment and hold no cycles; looking for some among them, as often as
# Python does by default, takes a fifth of the processor time.
OBJECTS_BETWEEN_COLLECTIONS = 100_000
# Bad rows that a dry run tells one by one.
MAX_SHOWN = 20

logger = logging.getLogger(__name__)


class StoppedError(Exception):
    """An import ended before its file did; the text says why."""


def run(chosen: Sequence[ImportOptions], url: str, schema: str, *, again: bool) -> int:
    """Carry out imports one after another; returns the exit status: 1 if a row was rejected or an import stopped."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    status = 0
    for options in chosen:
        logger.info("%s", options)
        importing = Importing(options, url, schema, again=again)
        try:
            print(importing.run(), flush=True)
        except (StoppedError, OSError, KeyboardInterrupt) as error:
            why = str(error) or "interrupted"
            print(f"stockledger: {options.source.path}: {why}; {importing.so_far()}", file=sys.stderr)
            return 1
        status |= importing.progress.rejected > 0
    return status


def dry_run(chosen: Sequence[ImportOptions]) -> int:
    """Read every row and say which are bad; returns the exit status. Uses no database."""
    status = 0
    for options in chosen:
        logger.info("%s", options)
        rows, bad = _check(options)
        print(
            f"{options.source.path}: {rows} rows read as {options.meaning.kind}, {bad} of them bad;"
            " nothing was written. Whether the ledger knows each SKU and has the stock was not asked."
        )
        status |= bad > 0
    return status


def _check(options: ImportOptions) -> tuple[int, int]:
    """Rows, and bad ones among them, of which the first are told."""
    rows = bad = 0
    with options.source.bar("checking") as bar, closing(chunks(options)) as ready:
        for chunk in ready:
            rows += len(chunk.steps)
            for step in chunk.steps:
                if step.problem is not None:
                    bad += 1
                    if bad <= MAX_SHOWN:
                        tqdm.write(f"{options.source.path}:{step.line}: {step.problem}")
            move(bar, chunk.position)
    return rows, bad


class Importing:
    """Carries out one import. `progress` is what the database has confirmed."""

    def __init__(self, options: ImportOptions, url: str, schema: str, *, again: bool) -> None:
        self._options = options
        self._url, self._schema, self._again = url, schema, again
        self._log, self._read_models = Log(url, schema), InlineReadModels()
        self._openings: list[Step] = []
        self._begun = False
        self._moved_at = 0.0
        self.progress = Progress()

    def run(self) -> str:
        """Import what is left of the file; returns a line that says what was done.

        A lost connection is as good as a kill: it begins again where the database says. Raises StoppedError when the
        database stays away or another process imports the file, SettingError when the file changes meanwhile.
        """
        if self._options.meaning.opening:
            self._openings = opening(self._options)
        self._moved_at = time.monotonic()
        with self._options.source.bar("importing") as bar:
            while True:
                try:
                    with closing(self._connect()) as conn:
                        return self._go_on(conn, bar)
                except psycopg.OperationalError as error:
                    self._wait(str(error).partition("\n")[0])

    def so_far(self) -> str:
        rows = max(0, self.progress.settled - len(self._openings))
        return f"{rows} rows of it are settled, and the same command again goes on from there"

    def _connect(self) -> BoundedConnection:
        return connect(self._url, self._schema, "stockledger import", answer_seconds=ANSWER_SECONDS)

    def _wait(self, why: str) -> None:
        if time.monotonic() - self._moved_at > AWAY_SECONDS:
            raise StoppedError(f"the database cannot be used ({why})")
        logger.warning("the database failed: %s; trying again", why)
        time.sleep(PAUSE_SECONDS)

    def _go_on(self, conn: BoundedConnection, bar: "tqdm[Never]") -> str:
        which = self._options.which
        if not imports.claim(conn, self._schema, which.import_id):
            if self._begun:
                raise psycopg.OperationalError("the lost connection is not over yet")
            raise StoppedError("another process is importing it")
        done = self._find_progress(conn)
        if done is not None:
            return done
        first = self.progress.settled
        with closing(Ahead(chunks(self._options, self._openings, first))) as ready:
            while (chunk := ready.take()) is not None:
                self._settle(conn, chunk, ready)
                move(bar, chunk.position)
                bar.set_postfix(rows=self.progress.settled, rejected=self.progress.rejected)
        imports.finish(conn, which.import_id)
        return self._summary()

    def _find_progress(self, conn: BoundedConnection) -> str | None:
        """Learn from where to go on; what is to be said instead if the file is done."""
        which = self._options.which
        found = imports.load(conn, which.import_id) or Progress()
        if found.finished_at is not None:
            if self._begun or not self._again:
                self.progress = found
                return self._summary() if self._begun else self._done_before()
            found = Progress()
            imports.restart(conn, which)
        elif found.settled and not self._begun:
            logger.info("going on with %s", self._options.source.path)
        self._begun = True
        left = self._options.rejects.cut(found.rejects_bytes)
        if left < found.rejects_bytes:
            logger.warning("%s no longer holds all rows rejected before", self._options.rejects.path)
        self.progress = structs.replace(found, rejects_bytes=left)
        return None

    def _settle(self, conn: BoundedConnection, chunk: Chunk, ready: Ahead) -> None:
        """Record a chunk and that it is recorded, in one transaction.

        The next one is read while the database writes, not before: two threads at once only get in each other's way.
        """
        reached = self.progress

        def note(trip: RoundTrip, batch: Batch) -> None:
            nonlocal reached
            reached = self._reached(chunk, batch)
            imports.save(trip, self._options.which, reached)
            ready.begin()

        commands = [step.command for step in chunk.steps if step.command is not None]
        # In groups, because the server is given what a group records while the next is decided.
        groups = [Group(commands[n : n + APPEND_ENTRIES]) for n in range(0, len(commands), APPEND_ENTRIES)]
        Batch(groups, note).run(conn, self._log, ROOMS, self._read_models)
        self.progress = reached
        self._moved_at = time.monotonic()

    def _reached(self, chunk: Chunk, batch: Batch) -> Progress:
        """Progress once the batch has committed; its rejected rows are in the file by then."""
        before, rejected = self.progress, list(_rejected(chunk.steps, chain.from_iterable(batch.results)))
        return Progress(
            settled=before.settled + len(chunk.steps),
            rejected=before.rejected + len(rejected),
            events=before.events + len(batch.entries),
            rejects_bytes=self._options.rejects.add(rejected, before.rejects_bytes),
        )

    def _summary(self) -> str:
        rows = self.progress.settled - len(self._openings)
        where = f", which are in {self._options.rejects.path}" if self.progress.rejected else ""
        return (
            f"{self._options.source.path}: {rows} rows read as {self._options.meaning.kind},"
            f" {self.progress.events} events recorded, {self.progress.rejected} rows rejected{where}"
        )

    def _done_before(self) -> str:
        return (
            f"{self._options.source.path}: already imported at {self.progress.finished_at:%Y-%m-%d %H:%M:%S} UTC,"
            f" {self.progress.rejected} rows rejected; nothing was done (--again imports it once more)"
        )


def _rejected(steps: Iterable[Step], results: Iterable[Result]) -> Iterator[Rejected]:
    """The rows that could not be read, and those that the ledger refuses."""
    outcomes = iter(results)
    for step in steps:
        result = step.problem if step.command is None else next(outcomes)
        # An opening stock that is refused is of a SKU whose own rows are, too.
        if isinstance(result, LedgerError) and step.line:
            yield Rejected(step.line, PROBLEMS[type(result)][1], str(result), step.original)
