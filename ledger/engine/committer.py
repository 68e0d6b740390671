"""Brings gathered commands into the log: the one place from which it is written.

Each process has one committer: a thread with one connection. What comes back is the truth: a connection that is lost
at any point, COMMIT included, is never taken for a failure or a conflict.
"""

import logging
import time
from collections.abc import Callable, Sequence

import psycopg

from ledger.commands import Group
from ledger.engine.batch import Batch, Result
from ledger.engine.batching import Batcher, Ticket
from ledger.engine.committer_counters import CommitterCounters
from ledger.errors import BusyError, DatabaseAwayError, DefectError, LedgerError, OutcomeUnknownError
from ledger.facts import Entry
from ledger.room import ReadModels, Rooms
from ledger.store.connection import BoundedConnection
from ledger.store.log import Log

# Commands in one transaction: more would hold the lock too long for the others.
MAX_BATCH_COMMANDS = 1_000
# Commands waiting in one process: more could not be answered in time anyway.
MAX_QUEUED_COMMANDS = 5_000
# How long the committer tries to find out what became of a COMMIT whose answer was lost, and its pause between tries.
RESOLVE_SECONDS = 10.0
RESOLVE_PAUSE_SECONDS = 0.1

logger = logging.getLogger(__name__)


Tickets = list[Ticket[Group, Sequence[Result]]]


class Committer:
    """`connect` opens a connection to the migrated schema; it is called again after one was lost."""

    def __init__(
        self, connect: Callable[[], BoundedConnection], log: Log, rooms: Rooms, read_models: ReadModels
    ) -> None:
        self._connect = connect
        self._log = log
        self._rooms = rooms
        self._read_models = read_models
        self._conn: BoundedConnection | None = None
        self.counters = CommitterCounters()
        self.batcher: Batcher[Group, Sequence[Result]] = Batcher(
            "committer",
            self._settle,
            max_together=MAX_BATCH_COMMANDS,
            max_waiting=MAX_QUEUED_COMMANDS,
            weigh=lambda group: len(group.commands),
        )

    def submit(self, group: Group) -> Sequence[Result]:
        """Have a group of commands decided in order, in one transaction, and return a result for each.

        Raises the UnavailableError that stands for all of them, or DefectError.
        """
        try:
            results = self.batcher.ask(group)
        except LedgerError as error:
            self.counters.failed(group, error)
            raise
        self.counters.told(group, results)
        return results

    def stop(self) -> None:
        """Finish what waits, then end."""
        self.batcher.stop()
        self._disconnect()

    def is_alive(self) -> bool:
        return self.batcher.is_alive()

    def _settle(self, tickets: Tickets) -> None:
        """Run one transaction for all; if it fails for a reason of its own content, one for each."""
        batch = Batch([ticket.question for ticket in tickets])
        self.counters.begun(batch.groups, tickets[0].asked_at)
        try:
            try:
                self._run(batch)
            finally:
                self.counters.ended(batch)
        except LedgerError as error:
            for ticket in tickets:
                ticket.answer(error)
        except Exception:
            if len(tickets) == 1:
                ids = [command.request_id for command in tickets[0].question.commands[:1]]
                logger.exception("a request failed", extra={"fields": {"request_id": "".join(ids)}})
                self.counters.met_defect()
                tickets[0].answer(DefectError())
                return
            logger.exception("a transaction of %d requests failed; trying them one by one", len(tickets))
            for ticket in tickets:
                self._settle([ticket])
        else:
            for ticket, results in zip(tickets, batch.results, strict=True):
                ticket.answer(results)

    def _run(self, batch: Batch) -> None:
        """Run the batch, again if the connection turns out to have been lost before anything was committed.

        Raises DatabaseAwayError when nothing was recorded, OutcomeUnknownError when that cannot be told.
        """
        was_connected = self._conn is not None
        try:
            self._attempt(batch)
        except _ConnectionLost:
            if batch.entries and self._is_recorded(batch.entries[-1]):
                return
            if not was_connected:
                raise DatabaseAwayError from None
            self._attempt_again(batch)

    def _attempt_again(self, batch: Batch) -> None:
        batch.entries = []
        try:
            self._attempt(batch)
        except _ConnectionLost:
            if batch.entries and self._is_recorded(batch.entries[-1]):
                return
            raise DatabaseAwayError from None

    def _attempt(self, batch: Batch) -> None:
        """Raises _ConnectionLost; `batch.entries` are then what may have been committed.

        Raises UnavailableError when the server refused and rolled back: a limit on waiting, or no room on its disk.
        """
        try:
            batch.run(self._connection(), self._log, self._rooms, self._read_models)
        except psycopg.Error as error:
            lost = self._conn is None or self._conn.closed
            self._disconnect()
            if not lost and not isinstance(error, psycopg.OperationalError):
                raise
            logger.warning("the database failed: %s", str(error).partition("\n")[0])
            if lost or error.sqlstate is None:  # only the server itself can say that it has rolled back
                raise _ConnectionLost from error
            waited = isinstance(error, psycopg.errors.LockNotAvailable | psycopg.errors.QueryCanceled)
            raise (BusyError if waited else DatabaseAwayError) from error
        except BaseException:
            self._disconnect()  # or the transaction would stay open, and with it the log's lock taken
            raise

    def _is_recorded(self, last: Entry) -> bool:
        """Find out whether the transaction that ends with `last` was committed; raises OutcomeUnknownError.

        Taking the lock means that the old transaction, if the server still worked on it, has ended.
        """
        until = time.monotonic() + RESOLVE_SECONDS
        while time.monotonic() < until:
            try:
                conn = self._connection()
                return self._log.holds(conn, last)
            except psycopg.Error as error:  # of any kind: what cannot be told must never be tried again as a failure
                logger.warning("looking for a lost answer: %s", str(error).partition("\n")[0])
                self._disconnect()
                time.sleep(RESOLVE_PAUSE_SECONDS)
        raise OutcomeUnknownError

    def _connection(self) -> BoundedConnection:
        if self._conn is None or self._conn.closed:
            self._conn = self._connect()
        return self._conn

    def _disconnect(self) -> None:
        """Closing rolls back whatever was open."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None


class _ConnectionLost(Exception):
    """The attempt ended without an answer from the database."""
