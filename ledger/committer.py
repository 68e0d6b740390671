"""Gathers waiting commands into one transaction: the one place from which the log is written.

Each process has one committer: a thread with one connection. Callers put their commands into its queue and wait; it
takes what waits, without artificial delay, and answers each with its own result. Under load batches grow, so the cost
of a transaction is shared and latency falls.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

import psycopg

from ledger.batch import Batch, ReadModels, Result
from ledger.commands import Group
from ledger.errors import BusyError, DatabaseAwayError, LedgerError, OutcomeUnknownError
from ledger.events import Entry
from ledger.store.connection import BoundedConnection
from ledger.store.log import Log

# Commands in one transaction: more would hold the lock too long for the others.
MAX_BATCH_COMMANDS = 1_000
# Commands waiting in one process: more could not be answered in time anyway.
MAX_QUEUED_COMMANDS = 5_000
# How long a caller waits before it is told to come back.
WAIT_SECONDS = 1.8
# How long the committer tries to find out what became of a COMMIT whose answer was lost, and its pause between tries.
RESOLVE_SECONDS = 10.0
RESOLVE_PAUSE_SECONDS = 0.1

logger = logging.getLogger(__name__)


class DefectError(LedgerError):
    """A command met a defect of this service; it was not recorded."""

    def __init__(self) -> None:
        super().__init__("The service could not carry this out; nothing was recorded.")


class Ticket:
    """Commands that one caller waits for. `taken` once they are in a transaction, `given_up` once nobody waits."""

    __slots__ = ("_done", "given_up", "group", "results", "taken")

    def __init__(self, group: Group) -> None:
        self.group = group
        self.results: Sequence[Result] = ()
        self.taken = False
        self.given_up = False
        self._done = threading.Lock()
        self._done.acquire()

    def answer(self, results: Sequence[Result]) -> None:
        self.results = results
        self._done.release()

    def wait(self, seconds: float) -> bool:
        return self._done.acquire(timeout=seconds)


class Committer:
    """`connect` opens a connection to the migrated schema; it is called again after one was lost."""

    def __init__(self, connect: Callable[[], BoundedConnection], log: Log, read_models: ReadModels) -> None:
        self._connect = connect
        self._log = log
        self._read_models = read_models
        self._conn: BoundedConnection | None = None
        self._queue: SimpleQueue[Ticket | None] = SimpleQueue()
        self._waiting = 0
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="committer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish what waits, then end."""
        self._queue.put(None)
        self._thread.join()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, group: Group) -> Sequence[Result]:
        """Have a group of commands decided in order, in one transaction, and return a result for each.

        Raises BusyError or OutcomeUnknownError when that takes too long.
        """
        ticket = Ticket(group)
        with self._guard:
            if self._waiting + len(group.commands) > MAX_QUEUED_COMMANDS:
                raise BusyError
            self._waiting += len(group.commands)
        self._queue.put(ticket)
        if not ticket.wait(WAIT_SECONDS):
            with self._guard:
                ticket.given_up = True
                taken = ticket.taken
            if not ticket.wait(0):
                raise OutcomeUnknownError if taken else BusyError
        return ticket.results

    def _work(self) -> None:
        while True:
            tickets, stopping = self._gather()
            if tickets:
                try:
                    self._settle(tickets)
                except Exception:
                    logger.exception("the committer failed")
                    self._disconnect()
                    _fail(tickets, DefectError())
            if stopping:
                self._disconnect()
                return

    def _gather(self) -> tuple[list[Ticket], bool]:
        """Wait for a ticket, then take all that wait, up to the limit; True when it is time to stop."""
        tickets: list[Ticket] = []
        count = 0
        ticket = self._queue.get()
        while ticket is not None:
            tickets.append(ticket)
            count += len(ticket.group.commands)
            if count >= MAX_BATCH_COMMANDS:
                break
            try:
                ticket = self._queue.get_nowait()
            except Empty:
                break
        with self._guard:
            self._waiting -= count
            for taken in tickets:
                taken.taken = True
        return [t for t in tickets if not t.given_up], ticket is None

    def _settle(self, tickets: list[Ticket]) -> None:
        """Run one transaction for all; if it fails for a reason of its own content, one for each."""
        batch = Batch([ticket.group for ticket in tickets])
        try:
            self._run(batch)
        except LedgerError as error:
            _fail(tickets, error)
        except Exception:
            if len(tickets) == 1:
                raise
            logger.exception("a transaction of %d requests failed; trying them one by one", len(tickets))
            self._disconnect()
            for ticket in tickets:
                self._settle_alone(ticket)
        else:
            for ticket, results in zip(tickets, batch.results, strict=True):
                ticket.answer(results)

    def _settle_alone(self, ticket: Ticket) -> None:
        try:
            self._settle([ticket])
        except Exception:
            logger.exception("a request failed")
            self._disconnect()
            _fail([ticket], DefectError())

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
            batch.run(self._connection(), self._log, self._read_models)
        except psycopg.Error as error:
            lost = self._conn is None or self._conn.closed
            self._disconnect()
            if not lost and not isinstance(error, psycopg.OperationalError):
                raise
            logger.warning("the database failed: %s", str(error).partition("\n")[0])
            if lost:
                raise _ConnectionLost from error
            waited = isinstance(error, psycopg.errors.LockNotAvailable | psycopg.errors.QueryCanceled)
            raise (BusyError if waited else DatabaseAwayError) from error

    def _is_recorded(self, last: Entry) -> bool:
        """Find out whether the transaction that ends with `last` was committed; raises OutcomeUnknownError.

        Taking the lock means that the old transaction, if the server still worked on it, has ended.
        """
        until = time.monotonic() + RESOLVE_SECONDS
        while time.monotonic() < until:
            try:
                conn = self._connection()
                return self._log.holds(conn, last)
            except psycopg.OperationalError as error:
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


def _fail(tickets: list[Ticket], error: LedgerError) -> None:
    for ticket in tickets:
        ticket.answer([error] * len(ticket.group.commands))
