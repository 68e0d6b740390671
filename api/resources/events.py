"""/api/events: the whole log in order, as JSON or as a stream of lines, for whoever follows it."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from threading import BoundedSemaphore

import falcon

from api.http import requests
from api.http.service import Service
from ledger.errors import AheadOfLogError, BusyError, InvalidError, OtherHistoryError
from ledger.store import point_in_time
from ledger.store.entry_lines import StoredEntry, to_line
from ledger.store.log import read_stored
from projections.reader import Reader

NDJSON = "application/x-ndjson"
MAX_WAIT_SECONDS = 30
DIGEST = re.compile(r"[0-9a-fA-F]{64}")
# Streams at once in one process: each has a thread for as long as its client takes to read the log.
MAX_STREAMS = 8
CHUNK_ENTRIES = 500


def follow_from(reader: Reader, after: int) -> int:
    """The log's head; raises AheadOfLogError for a reader that has read more than there is."""
    head = reader.read(point_in_time.head)
    if after > head:
        raise AheadOfLogError(after, head)
    return head


class Events:
    """Entries after `?after=`; with `?wait_seconds=` it waits for one where there is none yet."""

    def __init__(self, service: Service) -> None:
        self._reader = service.reader
        self._streams = BoundedSemaphore(MAX_STREAMS)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        requests.known_parameters(req, "after", "limit", "wait_seconds", "digest")
        form = req.client_prefers([falcon.MEDIA_JSON, NDJSON])
        if form is None:
            raise falcon.HTTPNotAcceptable(description=f"The log is {falcon.MEDIA_JSON} or {NDJSON}.")
        after, limit, seconds = requests.position(req, "after"), requests.limit(req), _wait_seconds(req)
        head = self._place_of(after, _digest(req))
        if seconds and head <= after:
            with requests.stand_in(req):
                self._reader.head_watcher.wait(after, seconds)
            requests.begin_work()
            head = self._reader.read(point_in_time.head)
        resp.set_header("Ledger-Position", str(head))
        resp.set_header("Vary", "Accept")
        resp.content_type = form
        if form == NDJSON and not req.has_param("limit"):
            resp.set_header("Next-Digest", self._digest_at(head))
            resp.stream = self._stream(req, after, head)
            return
        found = self._read(after, head, limit)
        next_after = found[-1].position if found else after
        digest = self._digest_at(next_after)
        if form == NDJSON:
            resp.set_header("Next-Digest", digest)
            resp.data = _lines(found)
        else:
            resp.data = b'{"items":[%b],"next_after":%d,"next_digest":"%b"}' % (
                b",".join(map(to_line, found)),
                next_after,
                digest.encode(),
            )

    def _place_of(self, after: int, digest: str | None) -> int:
        """The log's head; raises AheadOfLogError or OtherHistoryError for a reader whose place is not in this log."""
        head = follow_from(self._reader, after)
        if digest is not None and digest != (here := self._digest_at(after)):
            raise OtherHistoryError(after, here, head)
        return head

    def _digest_at(self, position: int) -> str:
        return self._reader.read(lambda conn: point_in_time.digest_at(conn, position)).hex()

    def _read(self, after: int, head: int, limit: int) -> list[StoredEntry]:
        """Positions have no gaps, so this many are there up to the head."""
        wanted = min(limit, head - after)
        return self._reader.read(lambda conn: read_stored(conn, after, wanted)) if wanted > 0 else []

    def _stream(self, req: falcon.Request, after: int, head: int) -> "LineStream":
        """Everything up to the head of now, so that a client can tell a whole answer from one that was cut short."""
        with ExitStack() as stack:
            stack.enter_context(self._place())
            stack.enter_context(requests.stand_in(req))
            return LineStream(lambda last: self._read(last, head, CHUNK_ENTRIES), after, stack.pop_all())

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._streams.acquire(blocking=False):
            raise BusyError
        try:
            yield
        finally:
            self._streams.release()


class LineStream:
    """Lines of the log in chunks, each read by itself: neither memory nor a snapshot is held for a slow client."""

    def __init__(self, more: Callable[[int], Sequence[StoredEntry]], after: int, held: ExitStack) -> None:
        self._more = more
        self._after = after
        self._held = held

    def __iter__(self) -> "LineStream":
        return self

    def __next__(self) -> bytes:
        chunk = self._more(self._after)
        if not chunk:
            raise StopIteration
        self._after = chunk[-1].position
        return _lines(chunk)

    def close(self) -> None:
        """Called by the server at the end, also when the client has gone away or nothing was read."""
        self._held.close()


def _lines(entries: Sequence[StoredEntry]) -> bytes:
    return b"".join([to_line(entry) + b"\n" for entry in entries])


def _digest(req: falcon.Request) -> str | None:
    text = req.get_param("digest")
    if text is None:
        return None
    if not DIGEST.fullmatch(text):
        raise InvalidError({"digest": "must be 64 hexadecimal digits, as next_digest gives them"})
    return text.lower()


def _wait_seconds(req: falcon.Request) -> int:
    text = req.get_param("wait_seconds", default="0")
    if not re.fullmatch(r"[0-9]{1,2}", text, re.ASCII) or int(text) > MAX_WAIT_SECONDS:
        raise InvalidError({"wait_seconds": f"must be a whole number from 0 to {MAX_WAIT_SECONDS}"})
    return int(text)
