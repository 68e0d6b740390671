"""Callers that ask at a pace of their own, whatever the service answers, and note second by second what it was.

Unlike the load of load.py, which asks again once answered, this one shows what happens when more is asked than the
service can do: it tells being shed (503) from being refused and from hanging up.
"""

import contextlib
import heapq
import multiprocessing
import selectors
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from bench.load import RECEIVE_BYTES, SPREAD_STEP, Connection, answer_size
from bench.measured import Histogram

DRAIN_SECONDS = 5.0  # how long answers may still come in after the last request
RETRY_SECONDS = 0.2  # after a connection could not be made
LONGEST_WAIT_SECONDS = 0.05
SHED = 503


@dataclass
class Second:
    """Answers of one second by kind: 2xx, 503, and everything else, connections that broke included."""

    answered: int = 0
    shed: int = 0
    errors: int = 0


@dataclass
class Seen:
    """What callers saw. `silent` counts requests without an answer at the end, `bare` 503s without Retry-After."""

    seconds: list[Second] = field(default_factory=list)
    asked: int = 0
    silent: int = 0
    bare: int = 0
    slowest: float = 0.0  # in seconds, of answers of any kind
    answered_latencies: Histogram = field(default_factory=Histogram)
    shed_latencies: Histogram = field(default_factory=Histogram)

    def count(self, at: float) -> Second:
        """The counts of the second that began at `at` after the start, rounded down."""
        while len(self.seconds) <= int(at):
            self.seconds.append(Second())
        return self.seconds[int(at)]

    def add(self, other: "Seen") -> None:
        for number, second in enumerate(other.seconds):
            mine = self.count(number)
            mine.answered += second.answered
            mine.shed += second.shed
            mine.errors += second.errors
        self.asked += other.asked
        self.silent += other.silent
        self.bare += other.bare
        self.slowest = max(self.slowest, other.slowest)
        self.answered_latencies.add(other.answered_latencies)
        self.shed_latencies.add(other.shed_latencies)

    def total(self) -> Second:
        return Second(
            sum(each.answered for each in self.seconds),
            sum(each.shed for each in self.seconds),
            sum(each.errors for each in self.seconds),
        )


@dataclass(frozen=True)
class Pace:
    """`connections` callers for `seconds`; together `rate` requests a second, or, without it, each once answered."""

    connections: int
    seconds: float
    rate: float | None = None

    @property
    def gap(self) -> float:
        """Seconds from one request of a connection to its next."""
        return self.connections / self.rate if self.rate else 0.0


class Caller(Connection):
    """A connection that keeps the head of its last answer; `due` is when it should ask next."""

    __slots__ = ("due", "retry_after")

    def __init__(self, address: tuple[str, int], index: int) -> None:
        super().__init__(address, index)
        self.due = 0.0
        self.retry_after = False

    def receive(self) -> int | None:
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError("closed by the service")
        self.received += data
        found = answer_size(self.received)
        if found is None or len(self.received) < found[1]:
            return None
        self.retry_after = found[0] == SHED and b"\r\nretry-after:" in self.received.lower()
        del self.received[: found[1]]
        return found[0]


class Crowd:
    """The event loop of one process."""

    def __init__(self, address: tuple[str, int], requests: list[bytes], pace: Pace) -> None:
        self._address, self._requests, self._pace = address, requests, pace
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int]] = []  # when to ask next, and who: connections with no request under way
        self._callers: dict[int, Caller] = {}
        self._waiting: set[int] = set()
        self._start = 0.0
        self.seen = Seen()

    def open(self, number: int) -> bool:
        try:
            caller = Caller(self._address, number * SPREAD_STEP)
        except OSError:
            return False
        self._callers[number] = caller
        self._selector.register(caller.socket, selectors.EVENT_READ, number)
        return True

    def run(self, share: range) -> Seen:
        """Ask for as long as the pace says, then wait a little for what is under way."""
        self._start = time.monotonic()
        end = self._start + self._pace.seconds
        self._due = [(self._start + self._pace.gap * place / len(share), number) for place, number in enumerate(share)]
        heapq.heapify(self._due)
        while (now := time.monotonic()) < end or (self._waiting and now < end + DRAIN_SECONDS):
            while self._due and self._due[0][0] <= now < end:
                self._ask(*heapq.heappop(self._due))
            until = self._due[0][0] if self._due and now < end else now + LONGEST_WAIT_SECONDS
            for key, _ in self._selector.select(max(0.0, min(until - now, LONGEST_WAIT_SECONDS))):
                self._read(key.data)
        self.seen.silent = len(self._waiting)
        return self.seen

    def close(self) -> None:
        for caller in self._callers.values():
            caller.socket.close()
        self._selector.close()

    def _ask(self, due: float, number: int) -> None:
        if number not in self._callers and not self.open(number):
            self._count(time.monotonic()).errors += 1
            heapq.heappush(self._due, (time.monotonic() + RETRY_SECONDS, number))
            return
        caller = self._callers[number]
        caller.due = due
        self.seen.asked += 1
        self._waiting.add(number)
        caller.send(self._requests)

    def _read(self, number: int) -> None:
        caller, now = self._callers[number], time.monotonic()
        try:
            status = caller.receive()
        except (OSError, ValueError):
            self._selector.unregister(caller.socket)
            caller.socket.close()
            del self._callers[number]
            if number in self._waiting:  # else it was closed while idle, which is the service's right
                self._count(now).errors += 1
                self._asks_next(number, caller.due, now)
            return
        if status is None:
            return
        self._note(caller, status, now)
        self._asks_next(number, caller.due, now)

    def _note(self, caller: Caller, status: int, now: float) -> None:
        taken, second = time.perf_counter() - caller.sent_at, self._count(now)
        self.seen.slowest = max(self.seen.slowest, taken)
        if 200 <= status < 300:
            second.answered += 1
            self.seen.answered_latencies.record(taken)
        elif status == SHED:
            second.shed += 1
            self.seen.bare += not caller.retry_after
            self.seen.shed_latencies.record(taken)
        else:
            second.errors += 1

    def _asks_next(self, number: int, due: float, now: float) -> None:
        """At its pace; a caller whose answer came too late for that asks at once."""
        self._waiting.discard(number)
        heapq.heappush(self._due, (max(now, due + self._pace.gap), number))

    def _count(self, now: float) -> Second:
        return self.seen.count(now - self._start)


def call(
    address: tuple[str, int], requests: list[bytes], pace: Pace, share: range, start_at: float, *, early: bool
) -> Seen:
    """The work of one process, from `start_at` of the monotonic clock; `early`: with its connections made before."""
    crowd = Crowd(address, requests, pace)
    with contextlib.closing(crowd):
        if early:
            for number in share:
                crowd.open(number)
        time.sleep(max(0.0, start_at - time.monotonic()))
        return crowd.run(share)


class Calling:
    """Processes that will call from `start_at` on; `result` waits for what they saw."""

    def __init__(
        self,
        address: tuple[str, int],
        requests: list[bytes],
        pace: Pace,
        start_at: float,
        *,
        processes: int,
        early: bool = True,
    ) -> None:
        self._pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
        one = Pace(-(-pace.connections // processes), pace.seconds, pace.rate and pace.rate / processes)
        shares = [range(pace.connections)[number::processes] for number in range(processes)]
        self._parts = [
            self._pool.submit(call, address, requests, one, share, start_at, early=early) for share in shares
        ]

    def result(self) -> Seen:
        seen = Seen()
        with self._pool:
            for part in self._parts:
                seen.add(part.result())
        return seen
