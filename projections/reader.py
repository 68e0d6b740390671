"""Reading: gathered look-ups, a small pool of connections for the rest, and what to do when the database is away."""

from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from ledger.caller import runs_inline, seconds_left
from ledger.errors import BusyError, DatabaseAwayError
from ledger.store import point_in_time
from ledger.store.connection import READ_SECONDS, BoundedConnection, NoAnswerError, connect, parameters, state_settings
from projections.head_watcher import HeadWatcher
from projections.lookups import Lookups
from projections.reporting.report_reader import ReportReader
from projections.stock import stock_levels

# How long a reader waits for a connection before it is told to come back, and how many may wait.
WAIT_SECONDS = 1.5
MAX_WAITING = 1_000

T = TypeVar("T")


class Reader:
    """Opens its connections in the background; make it after a fork, not before."""

    def __init__(self, url: str, schema: str, *, max_connections: int) -> None:
        self._url, self.schema = url, schema
        self._failures = 0
        kwargs: dict[str, Any] = parameters(url, schema, "stockledger reader")
        self._pool: ConnectionPool[BoundedConnection] = ConnectionPool(
            kwargs=kwargs | {"autocommit": True, "prepare_threshold": 0},
            connection_class=BoundedConnection,
            configure=self._connected,
            min_size=1,
            max_size=max_connections,
            max_waiting=MAX_WAITING,
            timeout=WAIT_SECONDS,
            open=False,
            reconnect_timeout=5,
        )
        self._pool.open()
        # The hottest question of all.
        self.fungibles = Lookups(
            lambda: connect(url, schema, "stockledger lookups", answer_seconds=READ_SECONDS), stock_levels.find
        )
        self.head_watcher = HeadWatcher(lambda: self.read(point_in_time.head))

        self.reports = ReportReader(url, schema)

    def read(self, query: Callable[[BoundedConnection], T]) -> T:
        """Run a query that changes nothing; once more if its connection turns out to have been lost.

        Raises DatabaseAwayError or BusyError.
        """
        assert not runs_inline(), "who waits for a connection needs a thread of its own"
        try:
            with self._pool.connection(min(WAIT_SECONDS, seconds_left())) as conn:
                return query(conn)
        except (PoolTimeout, TooManyRequests) as error:
            raise (DatabaseAwayError if self._cannot_connect() else BusyError) from error
        except NoAnswerError as error:
            raise DatabaseAwayError from error
        except psycopg.OperationalError:
            return self._read_again(query)

    def _cannot_connect(self) -> bool:
        """Whether the pool's last attempt to connect failed."""
        return self._pool.get_stats().get("connections_errors", 0) > self._failures

    def _connected(self, conn: BoundedConnection) -> None:
        state_settings(conn, self._url, self.schema)
        conn.answer_seconds = READ_SECONDS
        self._failures = self._pool.get_stats().get("connections_errors", 0)

    def _read_again(self, query: Callable[[BoundedConnection], T]) -> T:
        """After a restart of the database every connection in the pool is dead: look through them first."""
        try:
            self._pool.check()
            with self._pool.connection() as conn:
                return query(conn)
        except (psycopg.OperationalError, PoolTimeout) as error:
            raise DatabaseAwayError from error

    def use(self) -> tuple[int, int, int]:
        """Connections of the pool that are in use and that are not, and how many readers wait for one."""
        found = self._pool.get_stats()
        opened, idle = found.get("pool_size", 0), found.get("pool_available", 0)
        return opened - idle, idle, found.get("requests_waiting", 0)

    def close(self) -> None:
        self.head_watcher.stop()
        self.fungibles.close()
        self._pool.close()
