"""Waiting for the log to grow: one thread looks at its head, and only while anybody waits."""

import threading
import time
from collections.abc import Callable

from ledger.errors import BusyError, LedgerError

POLL_SECONDS = 0.05
# Callers waiting in one process; each has a thread that sleeps.
MAX_WAITING = 200


class HeadWatcher:
    """`read_head` tells the position of the last entry. Entries of other processes are seen too."""

    def __init__(self, read_head: Callable[[], int]) -> None:
        self._read_head = read_head
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._waiting = 0
        self._head = 0

    def wait(self, after: int, seconds: float) -> None:
        """Return once the log goes beyond position `after`, when the time is over, or after `stop`.

        Raises BusyError when too many wait.
        """
        until = time.monotonic() + seconds
        with self._changed:
            if self._waiting >= MAX_WAITING:
                raise BusyError
            self._waiting += 1
            try:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._look, name="arrivals", daemon=True)
                    self._thread.start()
                self._changed.wait_for(lambda: self._is_over(after), until - time.monotonic())
            finally:
                self._waiting -= 1

    def stop(self) -> None:
        """Wake all who wait; nobody waits from now on."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()

    def _is_over(self, after: int) -> bool:
        return self._head > after or self._stopped.is_set()

    def _look(self) -> None:
        while not self._is_idle():
            try:
                head = self._read_head()
            except LedgerError:  # the database is away: who waits goes on waiting
                head = 0
            with self._changed:
                if head > self._head:
                    self._head = head
                    self._changed.notify_all()
            self._stopped.wait(POLL_SECONDS)

    def _is_idle(self) -> bool:
        """Whether the thread may end: from then on the next who waits starts another."""
        with self._changed:
            if self._waiting and not self._stopped.is_set():
                return False
            self._thread = None
            return True
