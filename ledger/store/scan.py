"""Reading a range of the log quickly: short statements, each answered while the entries before are worked on."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

from ledger.store.connection import Connection
from ledger.store.lines import StoredEntry

CHUNK_ENTRIES = 20_000
# Chunks that wait to be worked on.
MAX_AHEAD = 2

_RANGE = """
SELECT notification_id, recorded_at, originator_id, originator_version, topic, state
FROM stored_events WHERE notification_id > %s AND notification_id <= %s ORDER BY notification_id
"""
_HEAD = "SELECT coalesce(max(notification_id), 0) FROM stored_events"


def head(conn: Connection) -> int:
    """The position of the last entry; 0 for an empty log."""
    row = conn.execute(_HEAD).fetchone()
    assert row is not None, "an aggregate has a row"
    return int(row[0])


def read_range(conn: Connection, after: int, to: int) -> list[StoredEntry]:
    """The entries after position `after` up to `to`, in order."""
    with conn.cursor(binary=True, row_factory=_stored) as cursor:
        return cursor.execute(_RANGE, [after, to]).fetchall()


class Scan:
    """Chunks of a range, the next ones read by a thread of its own; a context manager that owns its connection.

    No snapshot is held from one chunk to the next: what is in the log does not change.
    """

    def __init__(self, connect: Callable[[], Connection], after: int, to: int, chunk: int = CHUNK_ENTRIES) -> None:
        self._connect = connect
        self._bounds = [(start, min(start + chunk, to)) for start in range(after, to, chunk)]
        self._ready: queue.Queue[list[StoredEntry] | BaseException | None] = queue.Queue(MAX_AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, name="scan", daemon=True)

    def __enter__(self) -> "Scan":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        while self._thread.is_alive():  # it may wait for room
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                continue

    def __iter__(self) -> Iterator[list[StoredEntry]]:
        """Raises psycopg.Error when the log cannot be read."""
        while (chunk := self._ready.get()) is not None:
            if isinstance(chunk, BaseException):
                raise chunk
            yield chunk

    def _read(self) -> None:
        try:
            with self._connect() as conn:
                for after, to in self._bounds:
                    if self._stopped.is_set():
                        return
                    self._ready.put(read_range(conn, after, to))
            self._ready.put(None)
        except psycopg.Error as error:
            self._ready.put(error)


def _stored(_cursor: "psycopg.Cursor[Any]") -> Callable[[Any], StoredEntry]:
    return StoredEntry._make
