"""Batcher: who asks at the same moment is answered together, and nobody waits for ever."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger import caller
from ledger.caller import seconds_left, set_deadline
from ledger.engine.batching import Batcher, Ticket
from ledger.errors import BusyError, DefectError, OutcomeUnknownError


class Doubling:
    """Answers a number with its double; keeps what it was asked together, and waits to be let go."""

    def __init__(self, *, max_together: int = 100, max_waiting: int = 100) -> None:
        self.together: list[list[int]] = []
        self.begun = threading.Event()
        self.go = threading.Event()
        self.batcher: Batcher[int, int] = Batcher(
            "test", self._settle, max_together=max_together, max_waiting=max_waiting
        )

    def _settle(self, tickets: list[Ticket[int, int]]) -> None:
        self.begun.set()
        self.go.wait(10)
        self.together.append([ticket.question for ticket in tickets])
        for ticket in tickets:
            if ticket.question == 13:
                raise RuntimeError("a defect")
            ticket.answer(ticket.question * 2)


@pytest.fixture(autouse=True)
def _nobody_hurries() -> Iterator[None]:
    yield
    set_deadline(float("inf"))


def held_up(doubling: Doubling, callers: ThreadPoolExecutor) -> None:
    """Have one question being settled, so that the next ones gather behind it."""
    callers.submit(doubling.batcher.ask, 1)
    assert doubling.begun.wait(5)


def wait_for(doubling: Doubling, waiting: int) -> None:
    until = time.monotonic() + 5
    while doubling.batcher._waiting < waiting and time.monotonic() < until:
        time.sleep(0.005)


def test_what_waits_is_answered_together_and_each_gets_its_own():
    doubling = Doubling()
    with ThreadPoolExecutor(8) as callers:
        held_up(doubling, callers)
        asked = [callers.submit(doubling.batcher.ask, number) for number in (2, 3, 4)]
        wait_for(doubling, 3)
        doubling.go.set()

        assert [each.result() for each in asked] == [4, 6, 8]
    assert [len(together) for together in doubling.together] == [1, 3]
    doubling.batcher.stop()


def test_no_more_than_the_limit_is_answered_together():
    doubling = Doubling(max_together=2)
    with ThreadPoolExecutor(8) as callers:
        held_up(doubling, callers)
        asked = [callers.submit(doubling.batcher.ask, number) for number in (2, 3, 4)]
        wait_for(doubling, 3)
        doubling.go.set()
        assert {each.result() for each in asked} == {4, 6, 8}

    assert [len(together) for together in doubling.together] == [1, 2, 1]
    doubling.batcher.stop()


def test_who_comes_when_too_much_waits_is_turned_away_at_once():
    doubling = Doubling(max_waiting=1)
    with ThreadPoolExecutor(8) as callers:
        held_up(doubling, callers)
        waiting = callers.submit(doubling.batcher.ask, 2)
        wait_for(doubling, 1)

        with pytest.raises(BusyError):
            doubling.batcher.ask(3)

        doubling.go.set()
        assert waiting.result() == 4
    doubling.batcher.stop()


def test_who_gives_up_is_told_whether_it_was_begun(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(caller, "WAIT_SECONDS", 0.2)
    doubling = Doubling()
    with ThreadPoolExecutor(8) as callers:
        begun = callers.submit(doubling.batcher.ask, 1)
        assert doubling.begun.wait(5)
        with pytest.raises(BusyError):
            doubling.batcher.ask(2)
        with pytest.raises(OutcomeUnknownError):
            begun.result()
        doubling.go.set()
    doubling.batcher.stop()

    assert doubling.together == [[1]]  # what nobody waited for any longer was not done


def test_a_caller_that_has_waited_elsewhere_waits_less():
    doubling = Doubling()
    with ThreadPoolExecutor(8) as callers:
        held_up(doubling, callers)
        set_deadline(time.monotonic() + 0.1)
        began = time.monotonic()

        with pytest.raises(BusyError):
            doubling.batcher.ask(2)

        assert time.monotonic() - began < caller.WAIT_SECONDS / 2
        assert seconds_left() == 0
        doubling.go.set()
    doubling.batcher.stop()


def test_a_defect_is_told_to_those_it_hit_and_the_next_are_served():
    doubling = Doubling()
    doubling.go.set()

    with pytest.raises(DefectError):
        doubling.batcher.ask(13)

    assert doubling.batcher.ask(5) == 10
    doubling.batcher.stop()
    assert not doubling.batcher.is_alive()
