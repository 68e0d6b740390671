"""RESULTS.md: the one page of figures, made of results.json and of what BUDGET.md says by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import plots, results, tables
from bench.overload import KINDS

PAGE, BUDGET = "RESULTS.md", "BUDGET.md"

INTRO = """\
How fast the ledger is, beside what people would use instead, all on one machine and one PostgreSQL with fsync on.
Written by `make bench`, `make bench-full` and `python -m bench.budget`, each of which replaces its own sections."""

NOTES = """\
Every figure is the median of the rounds; a round runs each measurement once, one after another, so that a slow minute
of the machine falls on all of them. Latency is seen by the caller. Errors are those of all rounds together. The load
and the server share the processor. Raw SQL is pgbench, a C client on a Unix socket, which runs a transaction, or a
single statement, for each command; the library is an aggregate per SKU, got and saved for each command, without
snapshots. Neither has HTTP in front; raw SQL keeps no idempotency keys and no log that can be read without gaps, so it
shows what the database gives, not what a ledger costs."""

SIZES = """\
A ledger with a long log beside an empty one, each with its own service, measured in turns on the same PostgreSQL. A
cell is the median of the ratios of neighbours (1 is: the length of the log makes no difference), and in brackets the
long log's rate. Raw SQL has as many events of its own, the library a million at most."""

OVERLOAD = """\
Adds over 1,000 SKUs. The crowd would ask five times as much as was answered before, except that each caller waits for
its answer before asking again. A thousand who wait are no overload of single adds, which only take longer; of batches
they are many seconds of work, of which the service has to turn away what it cannot do in time."""

SOAK = "Hot and spread adds, holds of 30 s that expire, and reads, from 64 connections for {seconds:.0f} s: {rate:,}/s."

BUDGET_NOTES = """\
Processor time of the whole run divided by commands; the machine's own count includes what belongs to no process."""


def write(folder: Path) -> None:
    """The page and its plots, in the folder of results.json."""
    sections = results.read(folder)["sections"]
    drawn = plots.draw(sections, folder / "plots")
    budget = folder / BUDGET
    (folder / PAGE).write_text(page(sections, drawn, budget.read_text() if budget.exists() else ""))


def page(sections: dict[str, Any], drawn: dict[str, list[str]], budget: str) -> str:
    """The whole of RESULTS.md; `drawn` are the plots of each section, as paths from the page, `budget` is by hand."""
    parts = ["# Results", INTRO]
    newest = max((section["date"] for section in sections.values()), default="")
    machine = next((section["machine"] for section in sections.values() if section["date"] == newest), {})
    for name, (title, body) in SECTIONS.items():
        by_hand = budget.strip() if name == "budget" else ""
        if name not in sections and not by_hand:
            continue
        parts += [f"## {title}"] + ([by_hand] if by_hand else [])
        if name in sections:
            parts += [provenance(sections[name], machine)]
            parts += [f"![{Path(path).stem.replace('-', ' ')}]({path})" for path in drawn.get(name, [])]
            parts += body(sections[name]["data"])
    listed = "\n".join(f"- **{name}**: {value}" for name, value in machine.items())
    parts += ["## How to read it", NOTES, "## Machine", listed or "Nothing was measured yet."]
    return "\n\n".join(parts) + "\n"


def provenance(section: dict[str, Any], machine: dict[str, str]) -> str:
    """When and how a section was measured, and in what its machine differs from the one that the page describes."""
    told = (
        f"{section['date']}, `{section['command']}`; load average before {section['load_average']:.2f}, "
        f"fdatasync of 8 kB {section['fdatasync_ms']:.3f} ms"
    )
    other = [f"{name}: {value}" for name, value in section["machine"].items() if machine.get(name) != value]
    return f"*{'; '.join([told, *other])}*"


def rates(data: dict[str, Any]) -> list[str]:
    said = f"{data['seconds']:g} s each, {data['connections']} callers at a time."
    return [said, tables.rates(data), tables.ratios(data)]


def sizes(data: dict[str, Any]) -> list[str]:
    notes = sorted({note for stage in data["stages"] for note in stage["notes"]})
    said = [f"{data['pairs']} pairs of {data['seconds']:g} s."] + [f"- {note}" for note in notes]
    return [SIZES, "\n".join(said), tables.size_ratios(data), tables.size_facts(data)]


def overload(data: dict[str, Any]) -> list[str]:
    parts = [OVERLOAD]
    for kind in data["kinds"]:
        parts += [f"### {KINDS[kind].capitalize()}", tables.overload(data, kind), tables.overload_facts(data, kind)]
    return parts


def budget(data: dict[str, Any]) -> list[str]:
    listed = [tables.statements(data)] if any(kind["statements"] for kind in data["kinds"].values()) else []
    return [BUDGET_NOTES, tables.budget(data), *listed]


SECTIONS: dict[str, tuple[str, Callable[[dict[str, Any]], list[str]]]] = {
    "rates": ("Every command", rates),
    "connections": ("Against connections", lambda data: [tables.of_connections(data)]),
    "sizes": ("Against the size of the log", sizes),
    "overload": ("Overload", overload),
    "soak": ("Memory over time", lambda data: [SOAK.format(**data), tables.of_soak(data)]),
    "budget": ("Where the time goes", budget),
}
