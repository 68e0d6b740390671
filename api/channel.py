"""One client's connection: waitress' channel with its refusals as problem+json, and with less work per answer.

What never lives here: the event loop and the processes (server.py, supervisor.py), routes and what they answer.
Everything is done by subclassing; each override says what waitress does instead.
"""

import re
import time
import uuid
from functools import lru_cache
from socket import SHUT_WR, socket
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask, Task, WSGITask
from waitress.utilities import InternalServerError, build_http_date

if TYPE_CHECKING:
    from api.server import Server

MAX_BODY_BYTES = 1 << 20
MAX_HEADER_BYTES = 1 << 16
# Requests read ahead of the one that is being answered: with none, the loop would have to be woken after every answer.
LOOKAHEAD_REQUESTS = 1
# After a refusal the client may still be sending; closing at once would reset the connection and lose the answer.
LINGER_SECONDS, LINGER_BYTES = 5.0, 32 << 20
# How long a drain waits for: a client to take its last answer, a request that has begun, a first or next request.
DRAIN_LINGER_SECONDS, DRAIN_STALL_SECONDS, DRAIN_IDLE_SECONDS = 1.0, 2.0, 0.5

_SENSIBLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_REFUSALS = {  # status: slug, title, detail; without a detail waitress' own sentence says what is wrong
    400: ("bad-request", "Bad Request", ""),
    413: ("body-too-large", "Content Too Large", f"A body has at most {MAX_BODY_BYTES} bytes."),
    431: ("headers-too-large", "Request Header Fields Too Large", f"Headers have at most {MAX_HEADER_BYTES} bytes."),
    500: (
        "internal-error",
        "Internal Server Error",
        "The request failed. Its X-Request-Id finds the reason in the log.",
    ),
    501: ("not-implemented", "Not Implemented", ""),
}


@lru_cache(maxsize=512)
def _title(name: str) -> str:
    """`x-request-id` as `X-Request-Id`, the usual spelling."""
    return "-".join(part.capitalize() for part in name.split("-"))


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return f"Date: {build_http_date(second)}"


class Parser(HTTPRequestParser):
    """Refuses where waitress' parser would drop the connection, or wait for bytes that never come."""

    # waitress' log lines read the path of a request that may have failed before it had one.
    path = command = request_uri = ""  # type: ignore[assignment]  # the stub says bytes

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # from urlsplit ("http://[") or int (more than 4300 digits)
            raise ParsingError("The request line or Content-Length is invalid") from error

    def received(self, data: bytes) -> int:
        consumed = super().received(data)
        if self.completed:
            # Nothing is left to continue with; waitress would take the "100 Continue" for the start of a body.
            self.expect_continue = False
        return consumed


class Answer(Task):
    """Writes an answer: head and first piece in one send (waitress: two), names and date from a cache."""

    channel: "Channel"
    request: Parser  # type: ignore[assignment]  # the stub says Error

    def write(self, data: bytes) -> None:
        """Write the next piece of the body, after the head if it has not been written; may be empty."""
        if not self.complete:
            raise RuntimeError("start_response was not called before the body")
        head = b"" if self.wrote_header else self.build_response_header()
        self.channel.write_soon(head + self._frame(data))
        self.wrote_header = True

    def _frame(self, data: bytes) -> bytes:
        if not data or not self.has_body or self.request.command == "HEAD":
            return b""
        if self.chunked_response:
            return b"%X\r\n%b\r\n" % (len(data), data)
        if self.content_length is not None:
            data = data[: self.content_length - self.content_bytes_written]
            self.content_bytes_written += len(data)
        return data

    def build_response_header(self) -> bytes:
        """Status line and headers as the application gave them, completed by length, persistence and date."""
        lines = [f"HTTP/{self.version} {self.status}"]
        given = set()
        for raw_name, value in self.response_headers:
            name = _title(raw_name)
            given.add(name)
            if name != "Content-Length" or self.has_body:
                lines.append(f"{name}: {value}")
        if "Content-Length" not in given:
            lines += self._length()
        lines += self._persistence()
        if "Date" not in given:
            lines.append(_date(int(self.start_time)))
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    def _length(self) -> list[str]:
        """How the client finds the end of a body whose length the application did not give (RFC 9112, 6.3)."""
        if not self.has_body:
            return []
        if self.content_length is not None:
            return [f"Content-Length: {self.content_length}"]
        if self.request.command == "HEAD":
            return []
        if self.version == "1.1":
            self.chunked_response = True
            return ["Transfer-Encoding: chunked"]
        self.close_on_finish = True
        return []

    def _persistence(self) -> list[str]:
        """Whether the connection stays open (RFC 9112, 9.3); unlike waitress', also after 204, 304 and chunks."""
        asked = {token.strip() for token in self.request.headers.get("CONNECTION", "").lower().split(",")}
        if "close" in asked or (self.version == "1.0" and "keep-alive" not in asked) or self.channel.is_last_answer():
            self.close_on_finish = True
        if self.close_on_finish:
            return ["Connection: close"]
        return ["Connection: Keep-Alive"] if self.version == "1.0" else []

    def set_close_on_finish(self) -> None:
        self.close_on_finish = True


class ApplicationAnswer(Answer, WSGITask):
    """What the application answers."""


class Refusal(Answer, ErrorTask):
    """What the server answers by itself: always a problem (RFC 9457) with a request id, and the connection ends."""

    def execute(self) -> None:
        # For a failed application waitress hands over a blank request; the one that was asked is still the first.
        asked = self.channel.requests[0]
        error = self.request.error or InternalServerError("")
        slug, title, detail = _REFUSALS[error.code]
        problem = {
            "type": f"/problems/{slug}",
            "title": title,
            "status": error.code,
            "detail": detail or error.body[:500],
        }
        body = msgspec.json.encode(problem)
        request_id = asked.headers.get("X_REQUEST_ID", "")
        if not _SENSIBLE_ID.fullmatch(request_id):
            request_id = str(uuid.uuid4())
        self.request.command = asked.command
        self.status = f"{error.code} {title}"
        self.response_headers = [("Content-Type", "application/problem+json"), ("X-Request-Id", request_id)]
        self.content_length = len(body)
        self.close_on_finish = True
        self.write(body)


class Channel(HTTPChannel):
    """A connection in the loop of `Server`, which is woken by it only where there is something to do.

    The loop's thread reads and closes; a pool thread runs `service` and writes.
    """

    task_class = ApplicationAnswer
    error_task_class = Refusal
    parser_class = Parser
    server: "Server"
    requests: list[Parser]
    requests_lock: Lock
    socket: socket
    _fileno: int | None

    interest = 0  # the events the loop watches here, see Server.update
    paused = False  # the loop has stopped reading here because of work that a pool thread does
    input_ended = False  # the client sends nothing more; it may still read
    lingering = False  # the last answer is sent; what comes now is thrown away
    discarded_bytes = 0

    # -- in the loop's thread

    def readable(self) -> bool:
        if self.lingering:
            return True
        with self.requests_lock:
            self.paused = len(self.requests) > LOOKAHEAD_REQUESTS or self.total_outbufs_len > 0
        return not (self.paused or self.input_ended or self.will_close or self.close_when_flushed)

    def writable(self) -> bool:
        return bool(self.total_outbufs_len or self.close_when_flushed or self.will_close) and not self.lingering

    def handle_read(self) -> None:
        """Take what has arrived. The end of input is not the end: a client may half-close and wait for answers."""
        try:
            data = self.socket.recv(self.adj.recv_bytes)
        except BlockingIOError:
            return
        except OSError:
            self.handle_close()
            return
        if not data:
            self._end_input()
        elif self.lingering:
            self._discard(len(data))
        else:
            self.last_activity = time.time()
            self.received(data)

    def received(self, data: bytes) -> bool:
        """Parse requests; but where a refused request ends is not known, so what follows it is thrown away."""
        if any(request.error for request in self.requests[-1:]):
            return False
        return super().received(data)

    def _end_input(self) -> None:
        with self.requests_lock:
            self.input_ended = True
            answering = self.requests or self.total_outbufs_len or self.close_when_flushed
        if not answering or self.lingering:
            self.handle_close()

    def _discard(self, count: int) -> None:
        self.discarded_bytes += count
        if self.discarded_bytes > LINGER_BYTES:
            self.handle_close()

    def handle_write(self) -> None:
        """Send what is left of an answer; after the last one, linger instead of closing."""
        if self.socket is None:  # closed by the reading half of the same event
            return
        self._flush_exception(self._flush_some_if_lockable)  # type: ignore[attr-defined]  # not in the stub
        if self.will_close:  # the socket failed
            self.handle_close()
        elif self.close_when_flushed and self.connected and not self.total_outbufs_len:
            self._linger()

    def _linger(self) -> None:
        self.lingering = True
        self.last_activity = time.time()
        try:
            self.socket.shutdown(SHUT_WR)
        except OSError:
            self.handle_close()
        else:
            if self.input_ended:
                self.handle_close()

    def is_overdue(self, now: float) -> bool:
        """Whether the connection has been silent for too long; one whose request is being answered never is."""
        if self.requests and not self.total_outbufs_len:
            return False
        return now - max(self.last_activity, self.server.draining_since) > self._patience()

    def _patience(self) -> float:
        draining = self.server.draining_since > 0
        if self.lingering:
            return DRAIN_LINGER_SECONDS if draining else LINGER_SECONDS
        if not draining or self.total_outbufs_len:
            return self.server.idle_seconds
        return DRAIN_STALL_SECONDS if self.request is not None else DRAIN_IDLE_SECONDS

    def add_channel(self, map: Any = None) -> None:
        super().add_channel(map)
        self.server.watch(self)

    # -- in a pool thread

    def is_last_answer(self) -> bool:
        """In a drain: nothing else has arrived, so this answer tells the client that the connection ends."""
        return self.server.draining and len(self.requests) == 1

    def service(self) -> None:
        """Answer the first waiting request."""
        super().service()
        if self.input_ended and not self.requests:
            self.close_when_flushed = True
        self._wake_loop()

    def write_soon(self, data: bytes) -> int:
        """Send at once what the socket takes; only the rest goes through waitress' buffers and the loop."""
        with self.outbuf_lock:
            sent = self._send_at_once(data) if isinstance(data, bytes) and not self.total_outbufs_len else 0
            if sent < len(data) or not data:
                sent += super().write_soon(data[sent:] if sent else data)
        if self.total_outbufs_len:
            self._wake_loop()
        return sent

    def _send_at_once(self, data: bytes) -> int:
        try:
            return self.send(data, do_close=False) if self.connected else 0
        except OSError:
            return 0  # waitress' own attempt meets the same error, and handles it

    def _wake_loop(self) -> None:
        if self.paused or self.close_when_flushed or self.total_outbufs_len or self.will_close:
            self.server.wake(self)
