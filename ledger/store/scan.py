"""Reading a range of the log quickly: short statements, each answered while the entries before are worked on."""

import queue
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

import psycopg

from ledger.store.connection import Connection
from ledger.store.entry_lines import SealedEntry, StoredEntry
from ledger.store.hash_chain import BEGINNING

CHUNK_ENTRIES = 20_000
# Chunks that wait to be worked on.
MAX_AHEAD = 2

_RANGE = """
SELECT notification_id, {time}, originator_id, originator_version, topic, state{digest}
FROM stored_events WHERE notification_id > %s AND notification_id <= %s ORDER BY notification_id LIMIT %s
"""
_STORED = _RANGE.format(time="recorded_at", digest="")
_SEALED = _RANGE.format(time="recorded_at", digest=", digest")
# PostgreSQL knows times that Python does not. Nobody can have recorded them, but a log may have been made to hold them.
_NEAREST = "greatest('0001-01-02Z', least('9999-12-30Z', recorded_at))"
_STORED_NEAREST = _RANGE.format(time=_NEAREST, digest="")
_SEALED_NEAREST = _RANGE.format(time=_NEAREST, digest=", digest")
_HEAD = "SELECT coalesce(max(notification_id), 0) FROM stored_events"

_DIGEST = "SELECT digest FROM stored_events WHERE notification_id = %s"

E = TypeVar("E", StoredEntry, SealedEntry)
# Given a connection, a range and a limit: the entries after the first position up to the second, in order.
Read = Callable[[Connection, int, int, int], list[E]]


def head(conn: Connection) -> int:
    """The position of the last entry; 0 for an empty log."""
    row = conn.execute(_HEAD).fetchone()
    assert row is not None, "an aggregate has a row"
    return int(row[0])


def digest_at(conn: Connection, position: int) -> bytes | None:
    """The digest of an entry as it is stored, None if there is no such entry."""
    row = conn.execute(_DIGEST, [position]).fetchone()
    return (BEGINNING if position == 0 else None) if row is None else row[0]


def read_range(conn: Connection, after: int, to: int, limit: int = CHUNK_ENTRIES) -> list[StoredEntry]:
    """The entries after position `after` up to `to`, in order."""
    return _read(conn, _STORED, StoredEntry, after, to, limit)


def read_anyhow(conn: Connection, after: int, to: int, limit: int) -> list[StoredEntry]:
    """The same; a time that cannot be is the nearest that can."""
    try:
        return _read(conn, _STORED, StoredEntry, after, to, limit)
    except psycopg.DataError:
        return _read(conn, _STORED_NEAREST, StoredEntry, after, to, limit)


def read_sealed(conn: Connection, after: int, to: int, limit: int) -> list[SealedEntry]:
    """The same, with digests."""
    try:
        return _read(conn, _SEALED, SealedEntry, after, to, limit)
    except psycopg.DataError:
        return _read(conn, _SEALED_NEAREST, SealedEntry, after, to, limit)


class Scan(Generic[E]):
    """Chunks of a range, the next ones read by a thread of its own; a context manager that owns its connection.

    No snapshot is held from one chunk to the next: what is in the log does not change.
    """

    def __init__(
        self, connect: Callable[[], Connection], read: Read[E], after: int, to: int, chunk: int = CHUNK_ENTRIES
    ) -> None:
        self._connect = connect
        self._read_chunk: Read[E] = read
        self._after, self._to, self._chunk = after, to, chunk
        self._ready: queue.Queue[list[E] | BaseException | None] = queue.Queue(MAX_AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, name="scan", daemon=True)

    def __enter__(self) -> "Scan[E]":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        while self._thread.is_alive():  # it may wait for room
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                continue

    def __iter__(self) -> Iterator[list[E]]:
        """Raises psycopg.Error when the log cannot be read."""
        while (chunk := self._ready.get()) is not None:
            if isinstance(chunk, BaseException):
                raise chunk
            yield chunk

    def _read(self) -> None:
        after = self._after
        try:
            with self._connect() as conn:
                while not self._stopped.is_set() and after < self._to:
                    entries = self._read_chunk(conn, after, self._to, self._chunk)
                    if not entries:
                        break
                    self._ready.put(entries)
                    after = entries[-1].position
            self._ready.put(None)
        except psycopg.Error as error:
            self._ready.put(error)


def _read(conn: Connection, statement: str, kind: type[E], after: int, to: int, limit: int) -> list[E]:
    make: Callable[[Any], E] = partial(tuple.__new__, kind)  # what its _make does, in half the time
    with conn.cursor(binary=True, row_factory=lambda _: make) as cursor:
        return cursor.execute(statement, [after, to, limit]).fetchall()
