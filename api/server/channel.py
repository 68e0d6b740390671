"""One client's connection: waitress' channel, which lingers before it closes and wakes the loop only with reason.

What never lives here: the event loop and the processes (server.py, supervisor.py), the messages (responses.py).
"""

import ctypes
import logging
import struct
import time
from socket import MSG_NOSIGNAL, SHUT_WR, SO_LINGER, SOL_SOCKET, socket
from threading import Lock
from typing import Any, Protocol

from waitress.channel import HTTPChannel

from api.server.parser import Parser, RequestTimeout
from api.server.responses import ApplicationAnswer, Host, Refusal

logger = logging.getLogger(__name__)

# What a client has to take of an answer that waits for it.
MIN_BYTES_PER_SECOND = 1_024
# Requests read ahead of the one that is being answered: with none, the loop would have to be woken after every answer.
LOOKAHEAD_REQUESTS = 1
# After a refusal the client may still be sending; closing at once would reset the connection and lose the answer.
LINGER_SECONDS, LINGER_BYTES = 5.0, 32 << 20
# How long a drain waits for: a client to take its last answer, a request that has begun, a first or next request.
DRAIN_LINGER_SECONDS, DRAIN_STALL_SECONDS, DRAIN_IDLE_SECONDS = 1.0, 2.0, 0.5

# PyDLL keeps the interpreter lock. socket.send gives it away, and with all the request threads wanting it the sender
# waits a round for its end: 10 to 30 % more CPU per request. The socket never blocks, so the lock is kept for
# microseconds; above this size, where copying takes longer, it is given away as usual.
_GREEDY_SEND_BYTES = 1 << 16
_send = ctypes.PyDLL(None).send
_send.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
_send.restype = ctypes.c_ssize_t


class Loop(Host, Protocol):
    """The event loop that a connection is in (`api.server.server`)."""

    draining: bool
    draining_since: float
    idle_seconds: float
    slow_seconds: float

    def add_task(self, channel: "Channel") -> None: ...

    def watch(self, channel: "Channel") -> None: ...

    def wake(self, channel: "Channel") -> None: ...


class Channel(HTTPChannel):
    """A connection in the loop of its server, which is woken by it only where there is something to do.

    The loop's thread reads and closes; a pool thread runs `service` and writes.
    """

    task_class = ApplicationAnswer
    error_task_class = Refusal
    parser_class = Parser
    server: Loop  # type: ignore[assignment]  # the stub says BaseWSGIServer
    request: Parser | None
    requests: list[Parser]
    requests_lock: Lock
    socket: socket
    _fileno: int | None

    interest = 0  # the events the loop watches here, see Server.update
    paused = False  # the loop has stopped reading here because of work that a pool thread does
    input_ended = False  # the client sends nothing more; it may still read
    sent_bytes = 0  # by the loop, of answers that their client did not take at once
    looked_at, sent_then = 0.0, 0  # when the loop began to watch how fast it takes them, and what was sent by then
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

    def _end_input(self) -> None:
        with self.requests_lock:
            self.input_ended = True
            self.close_when_flushed = self.close_when_flushed or not self.requests
        if self.lingering or (self.close_when_flushed and not self.total_outbufs_len):
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

    def send(self, data: bytes, do_close: bool = True) -> int:
        sent: int = super().send(data, do_close=do_close)
        self.sent_bytes += sent
        return sent

    def is_too_slow(self, now: float) -> bool:
        """Whether the client takes an answer so slowly that it only holds on to what the answer needs."""
        if not self.total_outbufs_len or not self.looked_at:
            self.looked_at, self.sent_then = now, self.sent_bytes
        elif now - self.looked_at > self.server.slow_seconds:
            too_slow = self.sent_bytes - self.sent_then < MIN_BYTES_PER_SECOND * self.server.slow_seconds
            self.looked_at, self.sent_then = now, self.sent_bytes
            return too_slow
        return False

    def cut(self) -> None:
        """Close at once: what the system still holds of the answer for a client that does not take it is given up."""
        self.socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.handle_close()

    def refuse_late(self, now: float) -> None:
        """Answer a request of which a part is still to come after all the time it was given."""
        with self.requests_lock:
            late = self.request
            if late is None:
                return
            if not late.noticed or self.requests:  # while others are answered, this one may not be read at all
                late.noticed = now
            elif now - late.noticed > self.server.slow_seconds:
                late.error, late.completed = RequestTimeout(""), True
                self.request = None
                self.requests.append(late)
                self.server.add_task(self)

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

    # -- in a pool thread, or carried in the loop's

    def serve(self) -> None:
        """Answer the first waiting request, whatever happens."""
        try:
            self.service()
        except (Exception, SystemExit):  # the application's must not end the thread
            logger.exception("serving %r failed", self)
            self.cancel()
            self.server.wake(self)

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
        """How many bytes the socket has taken; 0 also when it failed: waitress' own attempt meets that and ends it."""
        if not self.connected:
            return 0
        if self._fileno is not None and len(data) <= _GREEDY_SEND_BYTES:
            return max(0, int(_send(self._fileno, data, len(data), MSG_NOSIGNAL)))
        try:
            return self.send(data, do_close=False)
        except OSError:
            return 0

    def _wake_loop(self) -> None:
        if self.paused or self.close_when_flushed or self.total_outbufs_len or self.will_close:
            self.server.wake(self)
