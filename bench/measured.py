"""What a measurement yields, whatever made it, and the histogram that latencies are kept in."""

import math
from collections import Counter
from dataclasses import dataclass, field
from statistics import median

STEP = math.log(1.01)  # a bucket is one per cent wide, finer than any two rounds agree


@dataclass(frozen=True)
class Measured:
    """Successes in a second, latencies in milliseconds, and how many commands failed."""

    rate: float
    p50_ms: float
    p99_ms: float
    errors: int


@dataclass
class Histogram:
    """Counts of durations in buckets of one per cent; bounded in memory and simple to add up."""

    buckets: Counter[int] = field(default_factory=Counter)

    def record(self, seconds: float) -> None:
        self.buckets[int(math.log(max(seconds * 1e6, 1.0)) / STEP)] += 1

    def add(self, other: "Histogram") -> None:
        self.buckets.update(other.buckets)

    def quantile_ms(self, share: float) -> float:
        """The duration that `share` of all durations do not exceed, within a bucket; 0 when nothing was recorded."""
        left = math.ceil(self.buckets.total() * share)
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return math.exp((bucket + 0.5) * STEP) / 1000
        return 0.0


def middle(rounds: list[Measured]) -> Measured:
    """The median of each figure over the rounds; errors are added up, as none may hide."""
    return Measured(
        rate=median(each.rate for each in rounds),
        p50_ms=median(each.p50_ms for each in rounds),
        p99_ms=median(each.p99_ms for each in rounds),
        errors=sum(each.errors for each in rounds),
    )


def number(rate: float) -> str:
    """A rate with no more digits than it is worth."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"
