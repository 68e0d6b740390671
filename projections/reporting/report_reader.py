"""Reading reports beside the service: a few at once, each in one snapshot, row after row in constant memory.

Readers of reports hold no lock that a writer waits for. Each takes a connection of its own, so that the pool of the
hot questions is never short, and no more than one processor of the database.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import psycopg
from msgspec import Struct
from psycopg import sql

from ledger.errors import BusyError, DatabaseAwayError
from ledger.store.connection import TRANSACTION_LIMIT_SINCE, BoundedConnection, connect
from projections.reporting.reports import Report
from projections.rows import HEAD, SNAPSHOT

# In one process; each keeps a thread of it busy.
MAX_REPORTS = 2
WAIT_SECONDS = 0.5
# A report's first rows, which may need all of the log's history; then each of its pieces.
STATEMENT_SECONDS = 60
# While it runs, the database keeps what it sees: rows that were replaced since cannot be cleared away.
REPORT_SECONDS = 900
# A client that takes so little that the next piece is not asked for.
IDLE_SECONDS = 300
ROWS = 500

Rows = list[tuple[Any, ...]]

_SETTINGS = {
    "statement_timeout": f"{STATEMENT_SECONDS}s",
    "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "cursor_tuple_fraction": "1",
}
# WorkerProcess the head of the log: how far the read model is, when it was there, and since when it is behind.
_POSITION = f"""
SELECT head.position, now(), f.position, last.recorded_at, next.recorded_at
FROM {HEAD} AS head
LEFT JOIN following AS f ON f.name = %(name)s
LEFT JOIN stored_events AS last ON last.notification_id = f.position
LEFT JOIN stored_events AS next ON next.notification_id = coalesce(f.position, 0) + 1
"""


_DECLARE = "DECLARE report NO SCROLL CURSOR FOR"
_FETCH = f"FETCH {ROWS} FROM report".encode()


_RECORDED = "SELECT recorded_at FROM stored_events WHERE notification_id = %(position)s"


class Reflected(Struct, frozen=True):
    """What a report reflects: the log up to `position`, as it was at `at` (None before the first event).

    Behind the log by so many events, of which the first was recorded so many seconds ago.
    """

    position: int
    at: datetime | None
    lag_events: int = 0
    lag_seconds: float = 0.0


class OpenReport:
    """A report that is being read; `close` it whatever happens. `rows` may be gone through once."""

    def __init__(self, report: Report, conn: BoundedConnection, slots: threading.Semaphore) -> None:
        self.report = report
        self._conn = conn
        self._slots: threading.Semaphore | None = slots
        self._until = time.monotonic() + REPORT_SECONDS
        conn.execute(SNAPSHOT)
        self.reflected = _reflected(conn, report)
        with psycopg.ClientCursor(conn) as cursor:  # a cursor's declaration takes no parameters
            query = cursor.mogrify(report.query.encode(), report.parameters)
            cursor.execute(f"{_DECLARE} {query}".encode())
        # At once, so that what fails fails before the answer has begun.
        self._first = self._fetch()

    def rows(self) -> Iterator[Rows]:
        """Its rows, some hundred at a time; raises psycopg.Error when the database fails or it takes too long."""
        rows, self._first = self._first, []
        while rows:
            yield rows
            if time.monotonic() > self._until:
                raise psycopg.errors.QueryCanceled(f"a report may take {REPORT_SECONDS} s")
            rows = self._fetch()

    def _fetch(self) -> Rows:
        return self._conn.execute(_FETCH).fetchall()

    def close(self) -> None:
        """Closing the connection ends the snapshot, whatever the server is doing."""
        if self._slots is not None:
            self._conn.close()
            self._slots.release()
            self._slots = None


class ReportReader:
    """Opens nothing until a report is asked for."""

    def __init__(self, url: str, schema: str) -> None:
        self._url = url
        self._schema = schema
        self._slots = threading.Semaphore(MAX_REPORTS)

    def open(self, report: Report) -> OpenReport:
        """Raises BusyError when too many are being read or this one takes too long, DatabaseAwayError."""
        if not self._slots.acquire(timeout=WAIT_SECONDS):
            raise BusyError
        conn = None
        try:
            conn = self._connect()
            return OpenReport(report, conn, self._slots)
        except BaseException as error:
            if conn is not None:
                conn.close()
            self._slots.release()
            if isinstance(error, psycopg.errors.QueryCanceled):
                raise BusyError from error
            if isinstance(error, psycopg.OperationalError):
                raise DatabaseAwayError from error
            raise

    def _connect(self) -> BoundedConnection:
        conn = connect(self._url, self._schema, "stockledger report")
        conn.answer_seconds = STATEMENT_SECONDS + 5.0
        settings = dict(_SETTINGS)
        if conn.info.server_version >= TRANSACTION_LIMIT_SINCE:
            settings["transaction_timeout"] = f"{REPORT_SECONDS}s"
        try:
            for name, value in settings.items():
                conn.execute(sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)), prepare=False)
        except BaseException:
            with suppress(psycopg.Error):
                conn.close()
            raise
        return conn


def _reflected(conn: BoundedConnection, report: Report) -> Reflected:
    if report.position is not None:
        recorded = conn.execute(_RECORDED.encode(), {"position": report.position}).fetchone()
        return Reflected(report.position, None if recorded is None else recorded[0])
    row = conn.execute(_POSITION.encode(), {"name": report.following}).fetchone()
    assert row is not None, "the head is there"
    head, now, position, last, next_recorded = row
    if report.following is None or position == head:
        return Reflected(head, now)
    seconds = max(0.0, (now - next_recorded).total_seconds()) if next_recorded else 0.0
    return Reflected(position or 0, last if position or 0 else None, head - (position or 0), round(seconds, 3))
