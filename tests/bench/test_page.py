"""The page of figures: what is kept of a run, what it becomes, and that nothing else is touched by it."""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import machine, page, plots, results, sizes, tables
from bench.measured import Measured
from bench.rounds import restored, stored

MACHINE = {"Processor": "a small one", "Python": "3.11.7"}


def rounds(*rates: float) -> list[dict[str, Any]]:
    return stored([Measured(rate, 1.25, 30.0, 0) for rate in rates])


def section(data: dict[str, Any], date: str = "2026-11-22 10:00 UTC", **machine: str) -> dict[str, Any]:
    """As results.json has it."""
    return {
        "date": date,
        "command": "python -m bench",
        "load_average": 0.5,
        "fdatasync_ms": 0.1,
        "machine": MACHINE | machine,
        "data": data,
    }


RATES = {
    "seconds": 8,
    "connections": 64,
    "rounds": {"http-add-hot": rounds(3000, 4000, 5000), "sql-add-hot": rounds(1000, 900, 1100)},
}
PAIR = {"empty": rounds(1000, 2000), "long": rounds(900, 2200)}
STAGE = {
    "events": 10_000,
    "grown_to": 10_250,
    "holds": 0,
    "followed": None,
    "start_seconds": {"empty": 1.0, "long": 1.25},
    "memory": {
        which: {"workers": [{"rss": 60.0, "pss": 25.0}], "others": [{"rss": 50.0, "pss": 12.0}]}
        for which in ("empty", "long")
    },
    "notes": ["not measured, as it answers 404: GET, a SKU at a position half-way"],
    "calls": {"add-hot": PAIR},
    "beside": {name: rounds(500.0) for name in sizes.BESIDE},
    "size": {"events": 20_000, "tables": [{"name": "stored_events", "table": 4_000_000, "indexes": 2_000_000}]},
}
SECOND = {"answered": 90, "shed": 5, "errors": 1}
PHASE = {
    "asked": 96,
    **SECOND,
    "silent": 0,
    "shed_without_retry_after": 0,
    "slowest_ms": 1500.0,
    "answered_p50_ms": 20.0,
    "answered_p99_ms": 900.0,
    "shed_p50_ms": 0.0,
    "shed_p99_ms": 0.0,
    "seconds": [SECOND],
}
OVERLOADED = {
    "usual_rate": 100,
    "settled_rate": 95,
    "before": PHASE,
    "crowd": PHASE,
    "after": PHASE,
    "normal_again": {"usual": 1, "settled": None},
    "workers_died": 0,
    "memory_mib": {"before": 25.0, "crowd": 33.0, "after": 26.0},
}
CPU = {"user": 30.0, "system": 12.0}
KIND = {
    "rate": 5000,
    "commands": 40_000,
    "groups": {"event loops of the workers": CPU},
    "machine": CPU | {"idle": 5.0},
    "wall": 200.0,
    "commands_per_append": 13.5,
    "commands_per_transaction": 10.0,
    "wal_bytes": 400.0,
    "wal_syncs": None,
    "statements": [{"query": "SELECT 1 | 2", "calls": 0.5, "microseconds": 3.5}],
}
SECTIONS = {
    "rates": section(RATES),
    "connections": section(
        {
            "seconds": 8,
            "points": [
                {"place": place, "series": series, "connections": count, "rounds": rounds(1000.0 * count)}
                for place in ("hot", "spread")
                for series in ("http", "sql", "sql1", "lib")
                for count in (1, 64)
            ],
        }
    ),
    "sizes": section({"seconds": 4, "pairs": 2, "stages": [STAGE, STAGE | {"holds": 1_000}]}),
    "overload": section(
        {"seconds": 1, "factor": 5, "connections": 1_000, "kinds": {"adds": OVERLOADED, "batches": OVERLOADED}}
    ),
    "soak": section(
        {
            "seconds": 20,
            "rate": 4_000,
            "p99_ms": 30.0,
            "errors": 0,
            "at_seconds": [0.0, 10.0, 20.0],
            "workers_mib": [[20.0, 25.0, 26.0]],
            "others_mib": [[12.0, 12.0, 12.0]],
        }
    ),
    "budget": section({"seconds": 8, "connections": 64, "kinds": {"add-hot": KIND, "get-hot": KIND}}),
}


def test_every_section_that_was_measured_is_on_the_page_with_its_date_and_command() -> None:
    written = page.page(SECTIONS, {"soak": ["plots/memory.svg"]}, "")

    titles = [line for line in written.splitlines() if line.startswith("## ")]
    assert titles == [f"## {title}" for title, _ in page.SECTIONS.values()] + ["## How to read it", "## Machine"]
    assert written.count("*2026-11-22 10:00 UTC, `python -m bench`; load average before 0.50") == len(SECTIONS)
    assert "![memory](plots/memory.svg)" in written


def test_a_page_without_figures_says_so() -> None:
    assert "Nothing was measured yet." in page.page({}, {}, "")


def test_a_section_of_another_machine_says_in_what_it_differed() -> None:
    older = section(RATES, "2026-11-21 09:00 UTC", Python="3.13.1")

    written = page.page({"rates": older, "soak": SECTIONS["soak"]}, {}, "")

    assert "fdatasync of 8 kB 0.100 ms; Python: 3.13.1*" in written
    assert "- **Python**: 3.11.7" in written


def test_what_was_written_by_hand_stands_above_the_measured_budget() -> None:
    written = page.page(SECTIONS, {}, "Half of it is HTTP.\n")

    assert "## Where the time goes\n\nHalf of it is HTTP.\n\n*2026-11-22" in written
    assert "Half of it is HTTP." in page.page({}, {}, "Half of it is HTTP.\n")


def test_rates_are_medians_and_ratios_are_those_of_medians() -> None:
    assert "| service, add, one hot SKU | 4,000 | 1.2 | 30.0 | 0 | 3,000, 4,000, 5,000 |" in tables.rates(RATES)
    assert tables.ratios(RATES).splitlines()[2:] == ["| hot add: service / SQL transaction | 4.00 | 3 |"]


def test_a_measurement_without_latencies_shows_none() -> None:
    assert tables.figures(Measured(25_000.0, 0.0, 0.0, 0)) == ["25,000", "-", "-"]


def test_a_long_log_is_compared_pair_by_pair() -> None:
    assert tables.ratio(PAIR) == pytest.approx((0.9 + 1.1) / 2)
    shown = tables.size_ratios({"stages": [STAGE]})
    assert "| add, one hot SKU | 1.00 (1,550) |" in shown
    assert "10,000 events" in shown


def test_bytes_of_an_event_are_those_of_the_log_and_of_everything() -> None:
    shown = tables.size_facts({"stages": [STAGE]})

    assert "| bytes an event: log's table | 200 |" in shown
    assert "| bytes an event: log's indexes | 100 |" in shown


def test_a_statement_cannot_break_its_table() -> None:
    assert "`SELECT 1 ¦ 2`" in tables.statements(SECTIONS["budget"]["data"])


def test_rounds_are_kept_to_four_digits_and_come_back() -> None:
    assert restored(stored([Measured(12345.678, 1.23456, 0.0, 7)])) == [Measured(12350.0, 1.235, 0.0, 7)]


def test_a_run_replaces_its_own_section_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / results.FILE).write_text(json.dumps({"sections": {"rates": SECTIONS["rates"], "soak": {"old": 1}}}))
    monkeypatch.setattr(machine, "facts", lambda url: MACHINE)
    chosen = argparse.Namespace(workers=2, threads=32, generator="own", results=tmp_path)

    results.keep("soak", {"new": 1}, SimpleNamespace(url="", folder=tmp_path), chosen, 0.25)  # type: ignore[arg-type]

    sections = results.read(tmp_path)["sections"]
    assert sections["rates"] == SECTIONS["rates"]
    assert sections["soak"]["data"] == {"new": 1}
    assert sections["soak"]["machine"]["Service"] == "2 workers of 32 threads"


def test_the_same_figures_give_the_same_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")

    first, second = tmp_path / "first", tmp_path / "second"
    drawn = plots.draw(SECTIONS, first)
    plots.draw(SECTIONS, second)

    paths = sorted(path.name for path in first.iterdir())
    assert paths == sorted(Path(path).name for each in drawn.values() for path in each)
    assert len(paths) == sum(map(len, plots.PICTURES.values()))
    assert [(first / path).read_bytes() for path in paths] == [(second / path).read_bytes() for path in paths]
