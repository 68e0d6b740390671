"""Requests carried in the loop's thread: each is set down where it waits and taken up with its own answer."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest

from api.app import MAX_LIGHT_BYTES, is_light
from api.server.inline_execution import InlineExecutor
from ledger import caller
from ledger.caller import runs_inline, seconds_left, set_deadline
from ledger.engine.batching import Batcher, Ticket
from ledger.errors import BusyError, LedgerError, OutcomeUnknownError

PATIENCE_SECONDS = 10.0


class Loop:
    """A loop in this thread that turns whenever it is woken."""

    def __init__(self) -> None:
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.carrier = InlineExecutor(lambda: self._woken.put(None))

    def turn_until(self, done: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not done():
            assert time.monotonic() < until, "it goes on for ever"
            with suppress(queue.Empty):
                self._woken.get(timeout=0.01)
            self.carrier.go_on()


@pytest.fixture
def loop() -> Iterator[Loop]:
    yield Loop()
    caller.wait_with(None)
    set_deadline(float("inf"))


class Answering:
    """Answers what it is asked once it is told to go on, in the reverse order."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()
        self.batcher: Batcher[int, int] = Batcher("test", self._settle, max_together=100, max_waiting=100)

    def _settle(self, tickets: list[Ticket[int, int]]) -> None:
        self.begun.set()
        self.go.wait(PATIENCE_SECONDS)
        for ticket in reversed(tickets):
            ticket.answer(ticket.question * 2)


@pytest.fixture
def answering() -> Iterator[Answering]:
    made = Answering()
    yield made
    made.go.set()
    made.batcher.stop()


def test_many_wait_in_one_thread_and_each_gets_its_own_answers(loop: Loop, answering: Answering):
    found: dict[int, list[int]] = {}

    def work(number: int) -> Callable[[], None]:
        def run() -> None:
            first = answering.batcher.ask(number)
            found[number] = [first, answering.batcher.ask(first + 1)]

        return run

    for number in range(50):
        loop.carrier.run_inline(work(number))
    assert found == {}
    answering.go.set()
    loop.turn_until(lambda: len(found) == 50)

    assert found == {number: [2 * number, 4 * number + 2] for number in range(50)}
    assert not loop.carrier.waiting


def test_who_waits_in_vain_is_told_so_and_a_late_answer_wakes_nobody(loop: Loop, answering: Answering):
    told: list[LedgerError | int] = []

    def ask(number: int, seconds: float) -> None:
        set_deadline(time.monotonic() + seconds)
        try:
            told.append(answering.batcher.ask(number))
        except LedgerError as error:
            told.append(error)

    loop.carrier.run_inline(lambda: ask(1, 0.2))
    assert answering.begun.wait(PATIENCE_SECONDS)
    loop.carrier.run_inline(lambda: ask(2, 0.2))
    loop.turn_until(lambda: len(told) == 2)
    assert [type(each) for each in told] == [OutcomeUnknownError, BusyError]

    answering.go.set()  # the first one's answer comes now, while another request waits where it did
    loop.carrier.run_inline(lambda: ask(21, PATIENCE_SECONDS))
    loop.turn_until(lambda: len(told) == 3)
    assert told[2] == 42


def test_each_keeps_its_own_deadline_while_others_are_carried(loop: Loop, answering: Answering):
    left: list[float] = []

    def ask(seconds: float) -> None:
        set_deadline(time.monotonic() + seconds)
        answering.batcher.ask(1)
        left.append(seconds_left())

    loop.carrier.run_inline(lambda: ask(100))
    loop.carrier.run_inline(lambda: ask(1))
    answering.go.set()
    loop.turn_until(lambda: len(left) == 2)

    assert sorted(seconds < 1 for seconds in left) == [False, True]


def test_work_that_never_waits_needs_no_greenlet_of_its_own(loop: Loop):
    seen = []
    for number in range(1000):
        loop.carrier.run_inline(lambda number=number: seen.append(number))

    assert seen == list(range(1000))
    assert len(loop.carrier._idle) == 1


def test_a_thread_without_a_carrier_may_block(loop: Loop):
    elsewhere: list[bool] = []
    thread = threading.Thread(target=lambda: elsewhere.append(runs_inline()))
    thread.start()
    thread.join()

    assert (runs_inline(), elsewhere) == (True, [False])


@pytest.mark.parametrize(
    ("method", "path", "query", "size", "light"),
    [
        ("GET", "/health/live", "", 0, True),
        ("GET", "/health/ready", "", 0, False),
        ("GET", "/api/fungible/A", "", 0, True),
        ("GET", "/api/fungible/A", "as_of=2026-11-22T00:00:00Z", 0, False),
        ("GET", "/api/fungible/A/history", "", 0, False),
        ("GET", "/api/fungible", "", 0, False),
        ("GET", "/api/non-fungible/A/1", "", 0, False),
        ("POST", "/api/fungible/A/add/5", "", 0, True),
        ("POST", "/api/reservations", "", MAX_LIGHT_BYTES, True),
        ("POST", "/api/reservations", "", MAX_LIGHT_BYTES + 1, False),
        ("POST", "/api/batch", "", 10, False),
        ("DELETE", "/api/non-fungible/A/1/reservation", "", 0, True),
        ("HEAD", "/health/ready", "", 0, False),
    ],
)
def test_light_is_what_waits_for_gathered_answers_only(method: str, path: str, query: str, size: int, light: bool):
    request = SimpleNamespace(command=method, path=path, query=query, body_bytes_received=size, error=None)

    assert is_light(request) == light  # type: ignore[arg-type]
