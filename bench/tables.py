"""The tables of the page: each takes the data of one section and returns Markdown."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from bench import connections, sizes, soak
from bench import overload as overloading
from bench.measured import Measured, middle, number
from bench.measures import GOALS, KINDS, RATIOS, TITLES
from bench.rounds import restored

MIB = 2**20


def table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """A Markdown table whose first `texts` columns are text and the others numbers."""
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def figures(got: Measured) -> list[str]:
    """Rate, p50, p99; a measurement of something else than single calls has no latencies."""
    if not got.p99_ms:
        return [number(got.rate), "-", "-"]
    return [number(got.rate), f"{got.p50_ms:.1f}", f"{got.p99_ms:.1f}"]


def rates(data: dict[str, Any]) -> str:
    rows = []
    for name, title in TITLES.items():
        if name in data["rounds"]:
            each = restored(data["rounds"][name])
            got = middle(each)
            rows.append([title, *figures(got), str(got.errors), ", ".join(number(one.rate) for one in each)])
    return table(["measurement", "rate /s", "p50 ms", "p99 ms", "errors", "rate of each round"], rows)


def ratios(data: dict[str, Any]) -> str:
    """How many times faster one is than the other, for the pairs that were both measured."""
    rate = {name: middle(restored(each)).rate for name, each in data["rounds"].items()}
    rows = [
        [title, f"{rate[upper] / rate[lower]:.2f}", GOALS.get((upper, lower), "")]
        for upper, lower, title in RATIOS
        if rate.get(upper) and rate.get(lower)
    ]
    return table(["ratio of median rates", "", "aim"], rows)


def of_connections(data: dict[str, Any]) -> str:
    counts = sorted({point["connections"] for point in data["points"]})
    rows = []
    for place, (where, _) in connections.PLACES.items():
        for series, title in connections.SERIES.items():
            found = {
                point["connections"]: middle(restored(point["rounds"]))
                for point in data["points"]
                if (point["place"], point["series"]) == (place, series)
            }
            cells = [
                f"{number(found[n].rate)} · {found[n].p50_ms:.1f} · {found[n].p99_ms:.1f}" if n in found else ""
                for n in counts
            ]
            rows.append([f"{title}, {where}", *cells])
    head = ["rate /s · p50 ms · p99 ms at", *(f"{n}" for n in counts)]
    return table(head, rows)


def size_ratios(data: dict[str, Any]) -> str:
    """The long log's rate, and how it compares to the empty log's: the median of the ratios of pairs."""
    stages = data["stages"]
    rows = []
    for name, title in sizes.CALLS.items():
        cells = [stage["calls"].get(name) for stage in stages]
        if any(cells):
            rows.append([title, *(f"{ratio(c):.2f} ({number(long_rate(c))})" if c else "-" for c in cells)])
    for name, title in sizes.BESIDE.items():
        rows.append([title, *(number(middle(restored(stage["beside"][name])).rate) for stage in stages)])
    return table(["rate: long / empty log (long log, /s)", *map(stage_title, stages)], rows)


def ratio(pair: dict[str, list[dict[str, Any]]]) -> float:
    pairs = zip(restored(pair["long"]), restored(pair["empty"]), strict=True)
    return median([long.rate / empty.rate for long, empty in pairs if empty.rate] or [0.0])


def long_rate(pair: dict[str, list[dict[str, Any]]]) -> float:
    return middle(restored(pair["long"])).rate


def stage_title(stage: dict[str, Any]) -> str:
    return sizes.Stage(stage["events"], stage["holds"]).title


def size_facts(data: dict[str, Any]) -> str:
    """What else may grow with a log: the time to start, memory, the database."""
    stages = data["stages"]

    def memory(which: str, kind: str, stage: dict[str, Any]) -> str:
        return ", ".join(f"{each['rss']:.0f} ({each['pss']:.0f})" for each in stage["memory"][which][kind])

    def log(stage: dict[str, Any]) -> dict[str, Any]:
        return next(each for each in stage["size"]["tables"] if each["name"] == "stored_events")

    def whole(stage: dict[str, Any]) -> float:
        return sum(each["table"] + each["indexes"] for each in stage["size"]["tables"])

    rows = [
        ["events before · after measuring", *(f"{s['grown_to']:,} · {s['size']['events']:,}" for s in stages)],
        ["start until ready, s", *(f"{s['start_seconds']['long']:.2f}" for s in stages)],
        ["the same, empty log", *(f"{s['start_seconds']['empty']:.2f}" for s in stages)],
        ["read models catching up, events /s", *(number(s["followed"]) if s["followed"] else "-" for s in stages)],
        ["memory of workers, RSS (PSS), MiB", *(memory("long", "workers", s) for s in stages)],
        ["the same, empty log", *(memory("empty", "workers", s) for s in stages)],
        ["memory of expiry and follower, RSS (PSS), MiB", *(memory("long", "others", s) for s in stages)],
        ["database, MiB", *(f"{whole(s) / MIB:,.0f}" for s in stages)],
        ["bytes an event: log's table", *(f"{log(s)['table'] / s['size']['events']:.0f}" for s in stages)],
        ["bytes an event: log's indexes", *(f"{log(s)['indexes'] / s['size']['events']:.0f}" for s in stages)],
        ["bytes an event: everything", *(f"{whole(s) / s['size']['events']:.0f}" for s in stages)],
    ]
    return table(["", *map(stage_title, stages)], rows)


def overload(data: dict[str, Any], kind: str) -> str:
    got = data["kinds"][kind]
    head = ["", "asked", "answered", "shed (503)", "of these without Retry-After", "errors", "never answered"]
    head += ["answered p50 · p99 ms", "slowest answer ms"]
    phases = {"before": f"{overloading.NORMAL_CONNECTIONS} connections", "after": "the same, right after"}
    phases["crowd"] = f"{data['factor']} times that, {data['connections']:,} connections"
    rows = []
    for name in ("before", "crowd", "after"):
        counts = ("asked", "answered", "shed", "shed_without_retry_after", "errors", "silent")
        latency = f"{got[name]['answered_p50_ms']:.1f} · {got[name]['answered_p99_ms']:.1f}"
        row = [phases[name], *(f"{got[name][count]:,}" for count in counts), latency]
        rows.append([*row, f"{got[name]['slowest_ms']:,.0f}"])
    return table(head, rows)


def overload_facts(data: dict[str, Any], kind: str) -> str:
    got = data["kinds"][kind]
    memory, again = got["memory_mib"], got["normal_again"]
    seconds = got["after"]["seconds"][: round(overloading.NORMAL_SECONDS)]
    after = ", ".join(f"{second['answered']:,}" for second in seconds)
    lines = [
        f"Usual rate before: {got['usual_rate']:,} requests/s. Answered in each second after the overload: {after}.",
        f"Back at 90 % of the rate before in {nth(again['usual'])}, at 90 % of the rate that it settled at"
        f" ({got['settled_rate']:,}/s) in {nth(again['settled'])}.",
        f"Memory of the largest worker (PSS), MiB: {memory['before']} before, {memory['crowd']} during,"
        f" {memory['after']} after. Workers that died: {got['workers_died']}.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def nth(second: int | None) -> str:
    return "no second that was measured" if second is None else f"the second that began {second} s after it"


def of_soak(data: dict[str, Any]) -> str:
    rows = []
    for kind, title in (("workers_mib", "worker"), ("others_mib", "expiry or follower")):
        for count, mib in enumerate(data[kind], 1):
            slope = soak.growth(data["at_seconds"], mib)
            middle_one = mib[len(mib) // 2]
            rows.append(
                [
                    f"{title} {count}",
                    f"{mib[0]:.1f}",
                    f"{middle_one:.1f}",
                    f"{mib[-1]:.1f}",
                    f"{max(mib):.1f}",
                    f"{slope:+.1f}",
                ]
            )
    head = ["PSS in MiB", "at the start", "half-way", "at the end", "at most", "growth in the second half, MiB/h"]
    return table(head, rows)


def budget(data: dict[str, Any]) -> str:
    """Microseconds of processor time for one command, by who spent them."""
    kinds = [kind for kind in KINDS if kind in data["kinds"]]
    each = [data["kinds"][kind] for kind in kinds]
    rows = [[group, *(split(one["groups"][group]) for one in each)] for group in (each[0]["groups"] if each else ())]
    rows.append(["whole machine", *(split(one["machine"]) for one in each)])
    rows.append(["cores idle", *(f"{one['machine']['idle']:.0f}" for one in each)])
    rows.append(["by the clock", *(f"{one['wall']:.0f}" for one in each)])
    rows.append(["commands a second", *(number(one["rate"]) for one in each)])
    for name, title, form in (
        ("commands_per_append", "commands in a transaction that appends", "{:.1f}"),
        ("commands_per_transaction", "commands for each transaction of any kind", "{:.1f}"),
        ("wal_bytes", "bytes of write-ahead log", "{:.0f}"),
        ("wal_syncs", "flushes of it", "{:.3f}"),
    ):
        rows.append([title, *("-" if one[name] is None else form.format(one[name]) for one in each)])
    return table(["µs of a command: all (user + kernel)", *(KINDS[kind] for kind in kinds)], rows)


def split(cpu: dict[str, float]) -> str:
    return f"{cpu['user'] + cpu['system']:.0f} ({cpu['user']:.0f} + {cpu['system']:.0f})"


def statements(data: dict[str, Any]) -> str:
    """The statements that took PostgreSQL longest, for each kind of command."""
    rows = [
        [title, f"`{each['query'].replace('|', '¦')}`", f"{each['calls']:.3f}", f"{each['microseconds']:.1f}"]
        for kind, title in KINDS.items()
        if kind in data["kinds"]
        for each in data["kinds"][kind]["statements"]
        if each["microseconds"] >= 0.5
    ]
    return table(["command", "statement", "runs for one command", "µs of one command, waits included"], rows, texts=2)
