"""The HTTP worker: waitress on a listening socket that several forked workers share.

What lives here: the socket, the event loop, the drain at SIGTERM.
What never does: one connection's protocol (channel.py), the threads that answer (thread_pool.py), the parent process
(supervisor.py), routes.
"""

import logging
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from wsgiref.types import WSGIApplication

from waitress import wasyncore
from waitress.server import TcpWSGIServer
from waitress.trigger import trigger as Trigger

from api.server.adjustments import BACKLOG, adjustments
from api.server.channel import Channel
from api.server.inline_execution import LOOK_SECONDS, InlineExecutor
from api.server.parser import Parser
from api.server.responses import base_environ
from api.server.thread_pool import Pool
from api.server.until_stopped import until_stopped

__all__ = ["WSGIApplication", "open_socket", "serve_worker"]

logger = logging.getLogger(__name__)

IDLE_SECONDS = 120.0
SLOW_SECONDS = 30.0
TURN_SECONDS, DRAIN_TURN_SECONDS = 1.0, 0.05
# Requests are parsed before any of them is handed on; this bounds the first one's wait.
EVENTS_PER_TURN = 64
# The burst of connections after a start, see Server.handle_accept.
REST_SECONDS, BURST_GAP_SECONDS, CROWD_PER_ACCEPT = 0.0003, 0.01, 16


def open_socket(host: str, port: int) -> socket.socket:
    """A listening TCP socket on an IPv4 or IPv6 address or name; port 0 takes a free one. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def serve_worker(
    app: WSGIApplication,
    sock: socket.socket,
    *,
    threads: int,
    runs_inline: Callable[[Parser], bool] = lambda _: False,
    drain_seconds: float = 10.0,
    idle_seconds: float = IDLE_SECONDS,
    slow_seconds: float = SLOW_SECONDS,
    on_drain: Callable[[], None] = lambda: None,
    on_start: "Callable[[Server], None]" = lambda _: None,
) -> None:
    """Answer requests from `sock` until SIGTERM or SIGINT, then drain and return; main thread only.

    The drain calls `on_drain`, takes no new connections, answers every request that has arrived, closes connections
    that stay silent, and gives up after `drain_seconds`. A connection silent for `idle_seconds` is closed at any time;
    a request has `slow_seconds` to arrive, and of an answer a client has to take 1 KiB a second over that time.
    Requests of which `runs_inline` is true run in the loop's thread, see inline_execution.py; the others in one of
    `threads`.
    """
    server = Server(app, sock, threads=threads, runs_inline=runs_inline, idle_seconds=idle_seconds)
    server.slow_seconds = slow_seconds
    on_start(server)
    until_stopped(lambda: server.serve(drain_seconds, on_drain), server.drain)


class Server(TcpWSGIServer):
    """waitress' server on epoll: a turn costs what happened in it, not the number of open connections."""

    channel_class = Channel
    effective_port: int
    slow_seconds = SLOW_SECONDS
    active_channels: dict[int, Channel]  # type: ignore[assignment]  # the stub says HTTPChannel
    trigger: Trigger  # type: ignore[assignment]  # the stub says int
    _map: dict[int, wasyncore.dispatcher]
    _fileno: int | None

    def __init__(
        self,
        app: WSGIApplication,
        sock: socket.socket,
        *,
        threads: int,
        runs_inline: Callable[[Parser], bool],
        idle_seconds: float,
    ) -> None:
        self.idle_seconds = idle_seconds
        # Told of each request that the server itself refuses: method, status, problem, request id.
        self.refused: Callable[[str, int, str, str], None] = lambda *_: None
        self._pool = Pool(threads)
        self._runs_inline = runs_inline
        self._inline_executor = InlineExecutor(self.wake_loop)
        self._listener = sock
        self.draining = False
        self.draining_since = 0.0
        self._epoll = select.epoll()
        self._woken: deque[Channel] = deque()
        self._wake_sent = False
        self._arrived: list[Channel] = []
        self._loop_thread = threading.get_ident()
        self._crowd = 0
        self._accepted_at = self._resting_until = 0.0
        super().__init__(
            app,
            {},
            _sock=sock,
            dispatcher=self._pool,  # type: ignore[arg-type]  # of a dispatcher only add_task is used
            adj=adjustments(sock),
            sockinfo=(sock.family, sock.type, sock.proto, sock.getsockname()),
            bind_socket=False,
        )
        self.environ = base_environ(self.server_name, self.effective_port)
        self.environ["stockledger.pool"] = self.task_dispatcher
        self.interest = select.EPOLLIN
        for fileno in self._map:
            self._epoll.register(fileno, select.EPOLLIN)

    def waiting(self) -> tuple[int, int]:
        """Requests in the loop's thread that wait for their answer, and requests that wait for a thread."""
        return self._inline_executor.waiting, self._pool.waiting

    def serve(self, drain_seconds: float, on_drain: Callable[[], None]) -> None:
        """Serve until `drain` has been called and is done, or has lasted for `drain_seconds`."""
        while not self.draining:
            self._turn(TURN_SECONDS)
        on_drain()
        self._stop_accepting()
        deadline = self.draining_since + drain_seconds
        while self.active_channels and time.time() < deadline:
            self._turn(DRAIN_TURN_SECONDS)
            self.maintenance(time.time())
        if self.active_channels:
            logger.warning("%d connections cut after draining for %g s", len(self.active_channels), drain_seconds)

    def _turn(self, seconds: float) -> None:
        """Wait for events and handle them. Within the loop over events only a channel's own event may close it:
        were its number taken by a new connection, an old event would be mistaken for the new one's."""
        if self._inline_executor.waiting:
            seconds = min(seconds, LOOK_SECONDS)
        for fileno, events in self._epoll.poll(REST_SECONDS if self._resting_until else seconds, EVENTS_PER_TURN):
            target = self._map.get(fileno)
            if target is not None:
                wasyncore.readwrite(target, events)
            if isinstance(target, Channel):
                self.update(target)
        self._wake_sent = False
        self._inline_executor.go_on()
        for channel in self._arrived:  # and what arrives behind them on the same connections
            if not channel.total_outbufs_len and self._runs_inline(channel.requests[0]):
                self._inline_executor.run_inline(channel.serve)
            else:
                self.task_dispatcher.add_task(channel)  # type: ignore[arg-type]  # the stub says Task
        self._arrived.clear()
        while self._woken:
            channel = self._woken.popleft()
            if channel.writable():
                wasyncore.write(channel)
            self.update(channel)
        if self.accepting:
            self.update(self)  # calls readable

    def add_task(self, channel: Channel) -> None:  # type: ignore[override]  # the stub says Task
        """Hand a request to the pool; from the loop at the end of the turn, or the two would fight for the lock."""
        if threading.get_ident() == self._loop_thread:
            self._arrived.append(channel)
        else:
            self.task_dispatcher.add_task(channel)  # type: ignore[arg-type]

    def readable(self) -> bool:
        """Whether to accept; waitress also looks after overdue connections here, once a second."""
        if self._resting_until < time.monotonic():
            self._resting_until = 0.0
        return super().readable() and not self._resting_until

    def handle_accept(self) -> None:
        """Accept a few connections; while a crowd comes, rest before the next so that the other workers get theirs.

        Otherwise the worker that is awake takes nearly all of a burst, and one core works while another idles.
        """
        now = time.monotonic()
        if now - self._accepted_at > BURST_GAP_SECONDS:
            self._crowd = len(self.active_channels)
        self._accepted_at = now
        for _ in range(1 + self._crowd // CROWD_PER_ACCEPT):
            before = len(self.active_channels)
            super().handle_accept()
            if len(self.active_channels) == before:
                break
        # Connections that come and go do not grow the crowd, and are accepted without a rest.
        if len(self.active_channels) > self._crowd:
            self._crowd = len(self.active_channels)
            self._resting_until = now + REST_SECONDS

    def watch(self, channel: Channel) -> None:
        channel.interest = select.EPOLLIN
        self._epoll.register(channel.socket, select.EPOLLIN)

    def update(self, watched: "Channel | Server") -> None:
        """Tell epoll what to look for, if that has changed."""
        if watched._fileno is None:  # closed
            return
        interest = (select.EPOLLIN if watched.readable() else 0) | (select.EPOLLOUT if watched.writable() else 0)
        if interest != watched.interest:
            watched.interest = interest
            self._epoll.modify(watched._fileno, interest)

    def wake(self, channel: Channel) -> None:
        """Have the loop look at a channel again; from any thread."""
        self._woken.append(channel)
        self.wake_loop()

    def wake_loop(self) -> None:
        """End the loop's wait for events; from any thread."""
        if not self._wake_sent:
            self._wake_sent = True
            self.trigger.pull_trigger()

    def pull_trigger(self) -> None:
        """Nothing: waitress calls it after every answer, but channels know better when to `wake` the loop."""

    def maintenance(self, now: float) -> None:
        """Close what has been silent or slow for too long; called between events only."""
        for channel in list(self.active_channels.values()):
            if channel.is_overdue(now):
                channel.handle_close()
            elif channel.is_too_slow(now):
                channel.cut()
            else:
                channel.refuse_late(now)

    def drain(self) -> None:
        """End `serve` in an orderly way; safe in a signal handler."""
        self.draining = True
        self.trigger.pull_trigger()

    def _stop_accepting(self) -> None:
        """Take what waits in the backlog, since its requests may have arrived; then leave the socket to the others."""
        self.draining_since = time.time()
        before = -1
        while before < len(self._map) < self.adj.connection_limit:
            before = len(self._map)
            self.handle_accept()
        self.accepting = False
        self._epoll.unregister(self._listener)
