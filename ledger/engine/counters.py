"""What the service counts about itself: plain numbers in memory, kept by whoever does the work.

Nothing here knows who reads them, or by which protocol. Counting takes no lock: each thread has numbers of its own,
and whoever reads adds them up. Keys must be few: they are kept for ever.
"""

import threading
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

# Seconds and sizes that tell good from bad; what is above the last counts too.
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000)

K = TypeVar("K")


class _Kept(threading.local, Generic[K]):
    """Numbers by key, one dict for each thread; `all` has those of every thread that counts."""

    def __init__(self, all: list[tuple[threading.Thread, dict[K, list[float]]]]) -> None:
        self.numbers: dict[K, list[float]] = {}
        all.append((threading.current_thread(), self.numbers))


class _Numbers(Generic[K]):
    def __init__(self) -> None:
        self._all: list[tuple[threading.Thread, dict[K, list[float]]]] = []
        self._kept: _Kept[K] = _Kept(self._all)
        self._ended: dict[K, list[float]] = {}  # numbers of threads that are no more
        self._guard = threading.Lock()

    def totals(self) -> dict[K, list[float]]:
        """The numbers of all threads, added up; from any thread, at any time."""
        with self._guard:
            for each in list(self._all):
                thread, numbers = each
                if not thread.is_alive():
                    self._all.remove(each)
                    _add(self._ended, numbers)
            found = {key: numbers[:] for key, numbers in self._ended.items()}
            for _, numbers in list(self._all):
                _add(found, numbers)
            return found


class LabelledCounter(_Numbers[K]):
    """How often something happened, by key; `totals` are lists of that one number."""

    def count(self, key: K, times: int = 1) -> None:
        numbers = self._kept.numbers
        if key in numbers:
            numbers[key][0] += times
        else:
            numbers[key] = [times]


class Histogram(_Numbers[K]):
    """How values are spread, by key.

    `totals` are the number of values up to each bound (and above the one before), the number above the last, their sum.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        super().__init__()
        self._bounds = bounds

    def observe(self, key: K, value: float) -> None:
        numbers = self._kept.numbers.get(key)
        if numbers is None:
            numbers = self._kept.numbers[key] = [0] * (len(self._bounds) + 1) + [0.0]
        numbers[bisect_left(self._bounds, value)] += 1
        numbers[-1] += value


def _add(totals: dict[K, list[float]], numbers: Mapping[K, list[float]]) -> None:
    """One step of the interpreter for each copy, so a thread that counts meanwhile does not matter."""
    for key, more in list(numbers.items()):
        totals[key] = added(totals.get(key), more[:])


def added(first: list[float] | None, second: list[float]) -> list[float]:
    """The sums, number by number; `first` may be None for nothing."""
    return second if first is None else [a + b for a, b in zip(first, second, strict=True)]
