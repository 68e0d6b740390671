"""The figures as Markdown: a table of medians, the ratios they are for, and the settings they hold under."""

from collections.abc import Mapping
from pathlib import Path

from bench.measured import Measured, middle
from bench.measures import RATIOS, TITLES

RESULTS = Path(__file__).parent / "RESULTS.md"

NOTES = """\
Every figure is the median of the rounds; a round runs each measurement once, one after another, so that a slow minute
of the machine falls on all of them. Latency is seen by the caller. Errors are those of all rounds together. The load
and the server share the processor. Raw SQL and the library have no HTTP in front; raw SQL keeps no idempotency keys and
no log that can be read without gaps, so it shows what the database gives, not what a ledger costs."""


def table(rounds: Mapping[str, list[Measured]]) -> str:
    """One line a measurement; rates in commands a second."""
    lines = [
        "| measurement | rate /s | p50 ms | p99 ms | errors | rate of each round |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, each in rounds.items():
        median = middle(each)
        figures = f"{number(median.rate)} | {median.p50_ms:.1f} | {median.p99_ms:.1f} | {median.errors}"
        lines.append(f"| {TITLES[name]} | {figures} | {', '.join(number(one.rate) for one in each)} |")
    return "\n".join(lines)


def ratios(rounds: Mapping[str, list[Measured]]) -> str:
    """How many times faster one is than the other, for the pairs that were both measured."""
    lines = ["| ratio of median rates | |", "| --- | ---: |"]
    for upper, lower, title in RATIOS:
        if upper in rounds and lower in rounds and (divisor := middle(rounds[lower]).rate):
            lines.append(f"| {title} | {middle(rounds[upper]).rate / divisor:.2f} |")
    return "\n".join(lines)


def number(rate: float) -> str:
    """A rate with no more digits than it is worth."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


def document(rounds: Mapping[str, list[Measured]], settings: Mapping[str, str]) -> str:
    """The whole of RESULTS.md."""
    listed = "\n".join(f"- **{name}**: {value}" for name, value in settings.items())
    parts = ["# Results", "Written by `make bench`.", table(rounds)]
    parts += [ratios(rounds), "## How to read it", NOTES, "## Settings", listed]
    return "\n\n".join(parts) + "\n"
