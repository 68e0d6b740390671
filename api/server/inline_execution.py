"""Requests carried in the event loop's own thread: a request that has to wait is set down, and taken up when its
answer is there.

For requests that wait for nothing but a gathered answer (`ledger.engine.batching`): handing each to a thread and
back costs more than all the rest of it. What blocks in another way has to run in a thread: here it would stop the loop.
"""

import time
from collections import deque
from collections.abc import Callable

from greenlet import getcurrent, greenlet

from ledger import caller

# How often the loop looks for requests that have waited in vain.
LOOK_SECONDS = 0.05


class Parking:
    """One wait of the request that makes it."""

    __slots__ = ("request", "until")

    def __init__(self) -> None:
        self.request = getcurrent()
        self.until = 0.0


class InlineExecutor(caller.InlineExecutor):
    """Belongs to the thread that makes it; `wake_loop` has that thread call `go_on`, from any thread."""

    def __init__(self, wake_loop: Callable[[], None]) -> None:
        self._wake_loop = wake_loop
        self._loop = getcurrent()
        self._answered: deque[Parking] = deque()
        self._parked: dict[Parking, None] = {}
        self._looked_at = 0.0
        self._idle: list[greenlet] = []
        self._work: Callable[[], None] = _nothing
        caller.wait_with(self)

    def run_inline(self, work: Callable[[], None]) -> None:
        """Run `work`, which raises nothing, until it ends or has to wait."""
        self._work = work
        (self._idle.pop() if self._idle else greenlet(self._go, self._loop)).switch()

    def _go(self) -> None:
        """One piece of work after another: a greenlet of its own for each would cost it a stack of its own, too."""
        me = getcurrent()
        while True:
            work, self._work = self._work, _nothing
            work()
            self._idle.append(me)
            self._loop.switch()

    @property
    def waiting(self) -> int:
        return len(self._parked)

    def parking(self) -> Parking:
        return Parking()

    def park(self, parking: Parking, seconds: float) -> None:
        parking.until = time.monotonic() + seconds
        self._parked[parking] = None
        self._loop.switch()

    def wake(self, parking: Parking) -> None:
        self._answered.append(parking)
        self._wake_loop()

    def go_on(self) -> None:
        """Take up every request whose answer is there, and those that have waited long enough."""
        while self._answered:
            self._take_up(self._answered.popleft())
        now = time.monotonic()
        if self._parked and now - self._looked_at > LOOK_SECONDS:
            self._looked_at = now
            for parking in [parking for parking in self._parked if parking.until <= now]:
                self._take_up(parking)

    def _take_up(self, parking: Parking) -> None:
        if parking in self._parked:  # else it has been taken up, or it did not have to wait
            del self._parked[parking]
            parking.request.switch()


def _nothing() -> None:
    pass
