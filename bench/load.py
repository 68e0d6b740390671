"""Our own HTTP load: processes, each an event loop over keep-alive connections that ask again once answered.

It sends requests that were formatted beforehand and reads only the status and the length of an answer, so that it takes
little of the processor that it shares with the service.
"""

import contextlib
import multiprocessing
import selectors
import socket
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from bench.measured import Histogram, Measured

CONNECT_SECONDS = 10.0
DRAIN_SECONDS = 10.0  # how long answers may still come in after the last request
MAX_RECONNECTS = 1000  # in one process; beyond it the service is down rather than busy
START_SECONDS = 0.5  # after which the processes, started by then, begin together
SPREAD_STEP = 17  # SKUs between the first requests of two connections
RECEIVE_BYTES = 65536


class LoadError(Exception):
    """The service cannot be measured: it takes no connections, or keeps hanging up."""


def http_request(method: str, path: str, host: str, body: str = "") -> bytes:
    """One request, with a body of JSON if there is one, ready for the wire."""
    kind = "Content-Type: application/json\r\n" if body else ""
    length = f"{kind}Content-Length: {len(body.encode())}\r\n" if method != "GET" else ""
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n{body}".encode()


def answer_size(received: bytes | bytearray) -> tuple[int, int] | None:
    """Status and size in bytes of the answer that `received` begins with; None while its head is incomplete.

    Raises ValueError for an answer that does not tell its length.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(received[:end]).lower()
    start = head.find(b"\r\ncontent-length:")
    if start < 0:
        raise ValueError("answer without Content-Length")
    length = head[start + 17 :].split(b"\r\n", 1)[0]
    return int(head[9:12]), end + 4 + int(length)


@dataclass
class Tally:
    """What one process saw: answers with a status of 2xx, failures of any kind, and the seconds it took."""

    succeeded: int = 0
    errors: int = 0
    seconds: float = 0.0
    latencies: Histogram = field(default_factory=Histogram)


class Connection:
    """One keep-alive connection with at most one request under way; `index` is that of its next request."""

    __slots__ = ("index", "received", "sent_at", "socket")

    def __init__(self, address: tuple[str, int], index: int) -> None:
        self.socket = socket.create_connection(address, CONNECT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.received = bytearray()
        self.index = index
        self.sent_at = 0.0

    def send(self, requests: list[bytes]) -> None:
        """Ask the next request in turn. A failure is left to `receive`, which the same broken socket will come to."""
        request = requests[self.index % len(requests)]
        self.index += 1
        self.sent_at = time.perf_counter()
        with contextlib.suppress(OSError):
            self.socket.send(request)  # always whole: it is small, and the send buffer is empty

    def receive(self) -> int | None:
        """The status of the answer once it is complete, None before. Raises OSError or ValueError when it is broken."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError("closed by the service")
        self.received += data
        found = answer_size(self.received)
        if found is None or len(self.received) < found[1]:
            return None
        del self.received[: found[1]]
        return found[0]


class Driver:
    """The event loop of one process."""

    def __init__(self, address: tuple[str, int], requests: list[bytes]) -> None:
        self._address, self._requests = address, requests
        self._selector = selectors.DefaultSelector()
        self._waiting = self._reconnects = 0
        self._tally = Tally()

    def open(self, index: int) -> Connection:
        """Connect; the first request will be the one at `index`."""
        try:
            connection = Connection(self._address, index)
        except OSError as error:
            raise LoadError(f"no connection to {self._address[0]}:{self._address[1]}: {error}") from None
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        return connection

    def run(self, connections: list[Connection], seconds: float) -> Tally:
        """Keep every connection asking for `seconds`, then wait for what is under way; unanswered counts as failed."""
        start = time.perf_counter()
        for connection in connections:
            connection.send(self._requests)
        self._waiting = len(connections)
        while self._waiting and time.perf_counter() < start + seconds + DRAIN_SECONDS:
            for key, _ in self._selector.select(timeout=0.1):
                self._read(key.data, more=time.perf_counter() < start + seconds)
        self._tally.errors += self._waiting
        self._tally.seconds = time.perf_counter() - start
        return self._tally

    def close(self) -> None:
        """Close every connection that is still open."""
        for key in list(self._selector.get_map().values()):
            self._hang_up(key.data)
        self._selector.close()

    def _read(self, connection: Connection, more: bool) -> None:
        try:
            status = connection.receive()
        except (OSError, ValueError):
            self._tally.errors += 1
            self._hang_up(connection)
            self._next(self._reconnect(connection.index) if more else None)
            return
        if status is not None:
            self._count(status, time.perf_counter() - connection.sent_at)
            self._next(connection if more else None)

    def _next(self, connection: Connection | None) -> None:
        if connection is None:
            self._waiting -= 1
        else:
            connection.send(self._requests)

    def _count(self, status: int, seconds: float) -> None:
        self._tally.latencies.record(seconds)
        if 200 <= status < 300:
            self._tally.succeeded += 1
        else:
            self._tally.errors += 1

    def _hang_up(self, connection: Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.socket.close()

    def _reconnect(self, index: int) -> Connection:
        self._reconnects += 1
        if self._reconnects > MAX_RECONNECTS:
            raise LoadError(f"{self._address[0]}:{self._address[1]} hung up {MAX_RECONNECTS} times")
        return self.open(index)


def drive(
    address: tuple[str, int], requests: list[bytes], share: range, seconds: float, start_at: float = 0.0
) -> Tally:
    """The work of one process: a connection for each number of `share`, begun at `start_at` of the monotonic clock.

    Each connection starts at another request, so that they do not walk over the SKUs in step.
    """
    driver = Driver(address, requests)
    with contextlib.closing(driver):
        connections = [driver.open(number * SPREAD_STEP) for number in share]
        time.sleep(max(0.0, start_at - time.monotonic()))
        return driver.run(connections, seconds)


def measure(
    address: tuple[str, int], requests: list[bytes], connections: int, seconds: float, processes: int
) -> Measured:
    """Load the service from several processes and add up what they saw. Raises LoadError when it is not there."""
    start_at = time.monotonic() + START_SECONDS
    shares = [range(connections)[number::processes] for number in range(processes)]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(drive, address, requests, share, seconds, start_at) for share in shares]
        return total([each.result() for each in waiting])


def total(tallies: list[Tally]) -> Measured:
    """One measurement from the tallies of processes that ran side by side."""
    latencies = Histogram()
    for tally in tallies:
        latencies.add(tally.latencies)
    return Measured(
        rate=sum(tally.succeeded / tally.seconds for tally in tallies),
        p50_ms=latencies.quantile_ms(0.50),
        p99_ms=latencies.quantile_ms(0.99),
        errors=sum(tally.errors for tally in tallies),
    )
