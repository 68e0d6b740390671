"""Measurements in rounds: each once a round, one after another, so that a slow minute falls on all of them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from bench.measured import Measured, number
from bench.measures import Measure
from bench.site import say

K = TypeVar("K")

WARM_UP_SECONDS = 2.0
PAUSE_SECONDS = 1.0  # between two measurements, for the one before to leave the machine


def run(
    todo: Mapping[K, Measure],
    seconds: float,
    rounds: int,
    title: Callable[[K], str],
    settle: Callable[[], object] = bool,
) -> dict[K, list[Measured]]:
    """Warm up, then measure all in every round; `settle` waits for what a measurement has left to be done."""
    results: dict[K, list[Measured]] = {name: [] for name in todo}
    for turn in range(rounds + 1):
        for name, measure in todo.items():
            got = measure(seconds if turn else WARM_UP_SECONDS)
            if turn:
                results[name].append(got)
            tell(f"round {turn} of {rounds}" if turn else "warm-up", title(name), got)
            settle()
            time.sleep(PAUSE_SECONDS)
    return results


def tell(stage: str, title: str, got: Measured) -> None:
    """A line of progress."""
    say(f"{stage:>14}  {title:<56} {number(got.rate):>8}/s  p99 {got.p99_ms:.1f} ms")


def stored(rounds: list[Measured]) -> list[dict[str, Any]]:
    """As results.json keeps them, four digits being more than any two rounds agree in."""
    return [{name: float(f"{value:.4g}") for name, value in asdict(each).items()} for each in rounds]


def restored(rounds: list[dict[str, Any]]) -> list[Measured]:
    return [Measured(each["rate"], each["p50_ms"], each["p99_ms"], int(each["errors"])) for each in rounds]
