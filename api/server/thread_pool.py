"""The threads that answer requests, of which one that only waits is replaced meanwhile."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Protocol


class Served(Protocol):
    """A connection with a request that waits to be answered."""

    def serve(self) -> None: ...


class Pool:
    """Threads that serve channels, in place of waitress' dispatcher: its queue of conditions costs more per request.

    Nor does it log a warning for every request that has to wait.
    """

    def __init__(self, threads: int) -> None:
        self._waiting: SimpleQueue[Served] = SimpleQueue()
        self._guard = threading.Lock()
        self._spare = 0  # threads beyond those asked for, which end when they have served
        for _ in range(threads):
            self._add_thread()

    @property
    def waiting(self) -> int:
        """Channels that wait for a thread."""
        return self._waiting.qsize()

    def add_task(self, channel: Served) -> None:
        self._waiting.put(channel)

    @contextmanager
    def stand_in(self) -> Iterator[None]:
        """Keep as many threads at work while the calling one, which serves a channel, only waits for something."""
        with self._guard:
            has_spare = self._spare > 0
            self._spare -= has_spare
        if not has_spare:
            self._add_thread()
        try:
            yield
        finally:
            with self._guard:
                self._spare += 1

    def _add_thread(self) -> None:
        # Daemons: a request that outlives the drain must not keep the process.
        threading.Thread(target=self._work, name="request", daemon=True).start()

    def _is_spare(self) -> bool:
        if not self._spare:  # looked at without the lock first, since this comes after every request
            return False
        with self._guard:
            is_spare = self._spare > 0
            self._spare -= is_spare
            return is_spare

    def _work(self) -> None:
        while not self._is_spare():
            self._waiting.get().serve()
