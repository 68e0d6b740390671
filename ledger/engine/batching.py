"""Batching: callers each put a question and wait; one thread takes all that wait, without artificial delay, and
answers them together. Under load the batches grow, so the cost of a round trip is shared and latency falls.
"""

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from ledger.caller import deadline, executor, seconds_left, set_deadline
from ledger.errors import BusyError, DefectError, LedgerError, OutcomeUnknownError

Q = TypeVar("Q")
A = TypeVar("A")

logger = logging.getLogger(__name__)


class Ticket(Generic[Q, A]):
    """A question that one caller waits for, since `asked_at` (time.monotonic).

    `taken` once it is being answered, `given_up` once nobody waits.
    """

    __slots__ = ("_done", "_inline_executor", "_parking", "_result", "asked_at", "given_up", "question", "taken")

    def __init__(self, question: Q) -> None:
        self.question = question
        self.asked_at = time.monotonic()
        self.taken = False
        self.given_up = False
        self._result: A | LedgerError | None = None
        self._inline_executor = executor()
        if self._inline_executor is None:
            self._done = threading.Lock()
            self._done.acquire()
        else:
            self._parking = self._inline_executor.parking()

    def answer(self, result: A | LedgerError) -> None:
        """Wake the caller; the first answer stands."""
        if self._result is None:
            self._result = result
            if self._inline_executor is None:
                self._done.release()
            else:
                self._inline_executor.wake(self._parking)

    def wait(self, seconds: float) -> bool:
        if self._inline_executor is None:
            return self._done.acquire(timeout=seconds)
        if self._result is None and seconds > 0:
            until = deadline()
            self._inline_executor.park(self._parking, seconds)
            set_deadline(until)  # others were carried by this thread meanwhile
        return self._result is not None

    def result(self) -> A:
        """The answer; raises the LedgerError that stands for it."""
        if isinstance(self._result, LedgerError):
            raise self._result
        assert self._result is not None, "it has been waited for"
        return self._result


class Batcher(Generic[Q, A]):
    """`settle` answers every ticket it is given, in the gathering's own thread. `weigh` says how much a question is.

    At most about `max_together` is settled at once, and at most `max_waiting` waits: beyond it callers are turned away.
    """

    def __init__(
        self,
        name: str,
        settle: Callable[[list[Ticket[Q, A]]], None],
        *,
        max_together: int,
        max_waiting: int,
        weigh: Callable[[Q], int] = lambda _: 1,
    ) -> None:
        self._settle = settle
        self.max_together = max_together
        self.max_waiting = max_waiting
        self._weigh = weigh
        self._queue: SimpleQueue[Ticket[Q, A] | None] = SimpleQueue()
        self._waiting = 0
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Settle what waits, then end."""
        self._queue.put(None)
        self._thread.join()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How much waits to be taken."""
        return self._waiting

    def ask(self, question: Q) -> A:
        """Wait for the answer; raises the LedgerError that stands for it.

        Raises BusyError when too much waits, or when nobody came to it in time, and OutcomeUnknownError when it was
        begun but not ended in time.
        """
        ticket: Ticket[Q, A] = Ticket(question)
        weight = self._weigh(question)
        with self._guard:
            if self._waiting + weight > self.max_waiting:
                raise BusyError
            self._waiting += weight
        self._queue.put(ticket)
        if not ticket.wait(seconds_left()):
            with self._guard:
                ticket.given_up = True
                taken = ticket.taken
            if not ticket.wait(0):
                raise OutcomeUnknownError if taken else BusyError
        return ticket.result()

    def _work(self) -> None:
        stopping = False
        while not stopping:
            tickets, stopping = self._take_waiting()
            if tickets:
                try:
                    self._settle(tickets)
                except Exception:
                    logger.exception("what was gathered could not be settled")
                for ticket in tickets:
                    ticket.answer(DefectError())  # only those that have none yet

    def _take_waiting(self) -> tuple[list[Ticket[Q, A]], bool]:
        """Wait for a ticket, then take all that wait, up to the limit; True when it is time to stop."""
        tickets: list[Ticket[Q, A]] = []
        weight = 0
        ticket = self._queue.get()
        while ticket is not None:
            tickets.append(ticket)
            weight += self._weigh(ticket.question)
            if weight >= self.max_together:
                break
            try:
                ticket = self._queue.get_nowait()
            except Empty:
                break
        with self._guard:
            self._waiting -= weight
            for taken in tickets:
                taken.taken = True
        return [ticket for ticket in tickets if not ticket.given_up], ticket is None
