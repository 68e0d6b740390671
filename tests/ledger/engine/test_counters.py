"""Counting without a lock: what all threads counted, also those that are no more, and in which bucket a value falls."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger.engine.counters import Histogram, LabelledCounter


def test_what_threads_count_is_added_up_also_after_they_have_ended():
    tally: LabelledCounter[str] = LabelledCounter()

    def work() -> None:
        for _ in range(1000):
            tally.count("a")
        tally.count("b", 5)

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(work)
        while tally.totals().get("b", [0])[0] < 40:  # read while they count
            assert tally.totals().get("a", [0])[0] <= 8000
    work()

    assert tally.totals() == {"a": [9000], "b": [45]}
    assert tally.totals() == {"a": [9000], "b": [45]}


def test_threads_that_have_ended_leave_nothing_behind_but_their_numbers():
    tally: LabelledCounter[str] = LabelledCounter()
    for _ in range(50):
        thread = threading.Thread(target=tally.count, args=("a",))
        thread.start()
        thread.join()

    assert tally.totals() == {"a": [50]}
    assert len(tally._all) <= 1


@pytest.mark.parametrize(
    ("value", "numbers"),
    [(0, [1, 0, 0, 0]), (1, [1, 0, 0, 1]), (1.5, [0, 1, 0, 1.5]), (2, [0, 1, 0, 2]), (9, [0, 0, 1, 9])],
)
def test_a_value_counts_up_to_its_bound(value: float, numbers: list[float]):
    histogram: Histogram[str] = Histogram((1, 2))

    histogram.observe("a", value)

    assert histogram.totals() == {"a": numbers}
