"""Look-ups of one thing by its name, gathered: all that wait at the same moment are answered by one query."""

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

import psycopg

from ledger.engine.batching import Batcher, Ticket
from ledger.errors import DatabaseAwayError, OutcomeUnknownError
from ledger.store.connection import BoundedConnection

# Names in one query.
MAX_TOGETHER = 200
# Callers waiting in one process: more could not be answered in time anyway.
MAX_WAITING = 5_000

N = TypeVar("N", bound=Hashable)
F = TypeVar("F")

logger = logging.getLogger(__name__)


class Lookups(Generic[N, F]):
    """`find` answers for each of some names; `connect` opens a connection, and is called again after one was lost."""

    def __init__(
        self,
        connect: Callable[[], BoundedConnection],
        find: Callable[[BoundedConnection, Sequence[N]], Mapping[N, F]],
    ) -> None:
        self._connect = connect
        self._find = find
        self._conn: BoundedConnection | None = None
        self._batcher: Batcher[N, F] = Batcher(
            "lookups", self._settle, max_together=MAX_TOGETHER, max_waiting=MAX_WAITING
        )

    def get(self, name: N) -> F:
        """What there is by that name now; raises DatabaseAwayError or BusyError."""
        try:
            return self._batcher.ask(name)
        except OutcomeUnknownError:  # nothing was to be recorded, so nothing is unknown: there was no answer
            raise DatabaseAwayError from None

    @property
    def waiting(self) -> int:
        """Names that wait for a query."""
        return self._batcher.waiting

    def close(self) -> None:
        self._batcher.stop()
        self._disconnect()

    def _settle(self, tickets: list[Ticket[N, F]]) -> None:
        names = list({ticket.question: None for ticket in tickets})
        try:
            found = self._found(names)
        except psycopg.OperationalError as error:
            logger.warning("looking up failed: %s", str(error).partition("\n")[0])
            for ticket in tickets:
                ticket.answer(DatabaseAwayError())
        else:
            for ticket in tickets:
                ticket.answer(found[ticket.question])

    def _found(self, names: Sequence[N]) -> Mapping[N, F]:
        """Once more on a new connection if the old one turns out to have been lost."""
        was_connected = self._conn is not None
        try:
            return self._found_once(names)
        except psycopg.OperationalError:
            if not was_connected:
                raise
            return self._found_once(names)

    def _found_once(self, names: Sequence[N]) -> Mapping[N, F]:
        if self._conn is None:
            self._conn = self._connect()
        try:
            return self._find(self._conn, names)
        except BaseException:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None
