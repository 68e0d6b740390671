"""Does anything bend as history grows? A ledger with a long log beside one that was just made, measured in turns.

Absolute figures drift with the machine, so each figure of the long log is divided by that of the empty log right before
or after it, and the median of these ratios counts. Both services start anew in every round, and the empty ledger is
made anew, since measuring fills it.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from statistics import median
from typing import Any, NamedTuple
from uuid import UUID

from bench import history, measures, processes, rounds
from bench.library import Library
from bench.measured import Measured
from bench.rawsql import SKUS
from bench.service import BATCH, HOT, SPREAD, ServiceError, Started
from bench.site import PROCESSES, Site, say

EVENTS, HOLDS = (10_000, 1_000_000, 10_000_000), 100_000
EMPTY, LONG = "bench_empty", "bench_long"
FOLLOW_SECONDS = 1800.0
LIBRARY_EVENTS = 1_000_000  # it reads all events of an aggregate for each command: with more it only stands still
SMALL_EVENTS = 100_000  # a log that is made anew every round as well, or it would not stay small
SEEDED = 250  # adds and holds that the empty ledger begins with too, so that pages are full
PAGE = 100
MOST_PAGES = 1_000  # to the last page of a history
WARM_UP_SECONDS = 1.0
PAUSE_SECONDS = 0.5
CONNECTIONS = 64
TOLD = SPREAD[0]  # the SKU whose history is read
CALLS = {
    "add-hot": "add, one hot SKU",
    "add-spread": "add, 1,000 SKUs",
    "reserve-hot": "reserve, one hot SKU",
    "get-hot": "GET, one hot SKU",
    "get-spread": "GET, 1,000 SKUs",
    "open": f"GET, {PAGE} open reservations of the hot SKU",
    "history": f"GET, first {PAGE} events of a SKU's history",
    "history-last": "GET, last page of a SKU's history",
    "at-position": "GET, a SKU at a position half-way",
    "batch": f"adds in batches of {BATCH}, 1,000 SKUs",
}
BESIDE = {
    "sql-add-hot": "SQL transaction, add, one hot row",
    "sql-add-spread": "SQL transaction, add, 1,000 rows",
    "lib-add-hot": f"library, {measures.FEW_THREADS} threads, add, one hot aggregate",
    "lib-add-spread": f"library, {measures.FEW_THREADS} threads, add, 1,000 aggregates",
}
AGGREGATES = [f"long-{number:04}" for number in range(SKUS)]


class Stage(NamedTuple):
    """A log of at least `events`, with `holds` open reservations on the hot SKU."""

    events: int
    holds: int

    @property
    def title(self) -> str:
        return f"{self.events:,} events" + (f", {self.holds:,} open holds" if self.holds else "")


def measure(site: Site, chosen: argparse.Namespace) -> dict[str, Any]:
    """One entry a stage: the sizes asked for, and the largest once more with open reservations on the hot SKU."""
    stages = [Stage(events, 0) for events in sorted(chosen.sizes)]
    stages += [Stage(stages[-1].events, chosen.holds)] if chosen.holds else []
    sql, library = measures.raw_sql(site, CONNECTIONS), Library(site.url, PROCESSES)
    sql.prepare()
    library.prepare()
    ids = library.register(AGGREGATES)
    make(site, LONG)
    done: list[dict[str, Any]] = []
    for stage in stages:
        try:
            done.append(at_size(site, chosen, stage, library, ids))
        except Exception as error:
            if not done:
                raise
            say(f"error: {stage.title}: {error!r}; the sizes before it are kept")
            break
    return {"seconds": chosen.pair_seconds, "pairs": chosen.pairs, "stages": done}


def at_size(site: Site, chosen: argparse.Namespace, stage: Stage, library: Library, ids: list[UUID]) -> dict[str, Any]:
    """Let all logs grow to this size, and measure."""
    began = time.monotonic()
    with site.connect(LONG) as conn:
        grown_to = history.grow(conn, LONG, stage.events)
        history.grow_raw(conn, stage.events, SKUS)
        history.grow_library(conn, min(stage.events, LIBRARY_EVENTS), ids)
        conn.execute("CHECKPOINT")
    grown = round(time.monotonic() - began, 1)
    say(f"{stage.title}: grown in {grown:.0f} s")
    followed = followed_rate(site, stage)
    done = {
        "events": stage.events,
        "grown_to": grown_to,
        "holds": stage.holds,
        "grow_seconds": grown,
        "followed": followed,
    }
    return done | in_turns(site, chosen, stage) | {"size": size(site)} | beside(site, chosen, library)


def followed_rate(site: Site, stage: Stage) -> int | None:
    """Make the holds, let the following read models catch up, and say how many events a second they took, if many."""
    with site.connect(LONG) as conn, site.service(LONG) as service:
        if stage.holds:
            service.hold(stage.holds)
        first, start = history.followed(conn), time.monotonic()
        if not site.settle(LONG, limit_seconds=FOLLOW_SECONDS):
            raise ServiceError(f"the following read models had not caught up after {FOLLOW_SECONDS:.0f} s")
        events, took = history.followed(conn) - first, time.monotonic() - start
        say(f"{stage.title}: followed {events:,} events in {took:.0f} s")
        return round(events / took) if events > SMALL_EVENTS else None


def make(site: Site, schema: str) -> None:
    """A ledger that holds the stock of the measurements and full pages, made anew."""
    site.drop(schema)
    with site.service(schema) as service:
        service.fill()
        service.hold(SEEDED)
    with site.connect(schema) as conn:
        history.grow(conn, schema, history.count(conn) + SEEDED, [TOLD])


def in_turns(site: Site, chosen: argparse.Namespace, stage: Stage) -> dict[str, Any]:
    """Rounds of each call on both ledgers, how long their services took to start, and the memory at the end."""
    rounds_of: dict[str, dict[str, list[Measured]]] = {}
    starts: dict[str, list[float]] = {"empty": [], "long": []}
    used: dict[str, Any] = {}
    notes: set[str] = set()
    for turn in range(chosen.pairs):
        make(site, EMPTY)
        if stage.events <= SMALL_EVENTS and not stage.holds and turn:
            make(site, LONG)
            with site.connect(LONG) as conn:
                history.grow(conn, LONG, stage.events)
        with ExitStack() as stack:
            pair = {"empty": EMPTY, "long": LONG}
            services = {which: stack.enter_context(site.service(schema)) for which, schema in pair.items()}
            calls = {which: dict(prepared(site, services[which], pair[which], notes)) for which in pair}
            site.settle(*pair.values())
            for which, service in services.items():
                starts[which].append(service.start_seconds)
                for name in ("add-hot", "add-spread", "get-hot"):
                    calls[which][name](WARM_UP_SECONDS)
            for name in [name for name in CALLS if all(name in found for found in calls.values())]:
                for which in ("empty", "long") if turn % 2 else ("long", "empty"):
                    got = calls[which][name](chosen.pair_seconds)
                    rounds_of.setdefault(name, {}).setdefault(which, []).append(got)
                    rounds.tell(f"{turn + 1} of {chosen.pairs}, {which}", f"{stage.title}: {CALLS[name]}", got)
                    site.settle(*pair.values())
                    time.sleep(PAUSE_SECONDS)
            used = {which: memory(service, site.threads) for which, service in services.items()}
    return {
        "start_seconds": {which: round(median(each), 3) for which, each in starts.items()},
        "memory": used,
        "notes": sorted(notes),
        "calls": {
            name: {which: rounds.stored(each) for which, each in found.items()} for name, found in rounds_of.items()
        },
    }


Call = Callable[[float], Measured]


def prepared(site: Site, service: Started, schema: str, notes: set[str]) -> Iterator[tuple[str, Call]]:
    """Each call that this service knows, ready to be measured; what it does not answer with 200 goes to `notes`."""
    for name, (method, path) in {
        "add-hot": ("POST", f"/api/fungible/{HOT}/add/1"),
        "reserve-hot": ("POST", f"/api/fungible/{HOT}/reserve/1"),
        "get-hot": ("GET", f"/api/fungible/{HOT}"),
        "open": ("GET", f"/api/reservations?sku={HOT}&state=open&limit={PAGE}"),
        "history": ("GET", f"/api/fungible/{TOLD}/history?limit={PAGE}"),
        "history-last": ("GET", last_page(service, f"/api/fungible/{TOLD}/history?limit={PAGE}")),
        "at-position": ("GET", f"/api/fungible/{TOLD}?at_position={half_way(site, schema)}"),
    }.items():
        status, _ = service.ask(method, path)
        if status == 200:
            yield name, partial(site.load, service, [service.request(method, path)], CONNECTIONS)
        else:
            notes.add(f"not measured, as it answers {status}: {CALLS[name]}")
    for name in ("add-spread", "get-spread"):
        yield name, partial(site.load, service, measures.requests(service, f"http-{name}"), CONNECTIONS)
    yield "batch", partial(measures.in_batches, site, service)


def last_page(service: Started, first: str) -> str:
    """The path of the last page of a list, found by following its cursors; the first where there is no such list."""
    path = first
    for _ in range(MOST_PAGES):
        status, answer = service.ask("GET", path)
        if status != 200 or not answer["next_cursor"]:
            break
        path = f"{first}&cursor={answer['next_cursor']}"
    return path


def half_way(site: Site, schema: str) -> int:
    """A position in the middle of the log, though after the first of the SKUs have their stock."""
    with site.connect(schema) as conn:
        return max(SKUS, history.count(conn) // 2)


def memory(service: Started, threads: int) -> dict[str, list[dict[str, float]]]:
    """Memory of each worker and of each other process (expiry, followers), in MiB."""
    workers, others = processes.split(service.pid, threads)
    return {
        "workers": [asdict(processes.memory(pid)) for pid in workers],
        "others": [asdict(processes.memory(pid)) for pid in others],
    }


def size(site: Site) -> dict[str, Any]:
    """Events in the long log, and bytes of its tables and of their indexes, the largest first."""
    with site.connect(LONG) as conn:
        rows = conn.execute(
            "SELECT relname, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class"
            " WHERE relnamespace = %s::regnamespace AND relkind = 'r' ORDER BY pg_total_relation_size(oid) DESC",
            [LONG],
        ).fetchall()
        return {
            "events": history.count(conn),
            "tables": [{"name": name, "table": table, "indexes": indexes} for name, table, indexes in rows],
        }


def beside(site: Site, chosen: argparse.Namespace, library: Library) -> dict[str, Any]:
    """Raw SQL on as many events of its own, the library on no more than a million, in rounds."""
    sql = measures.raw_sql(site, CONNECTIONS)
    todo: dict[str, measures.Measure] = {
        "sql-add-hot": partial(sql.measure, "transaction", "add", 1),
        "sql-add-spread": partial(sql.measure, "transaction", "add", SKUS),
        "lib-add-hot": partial(library.measure_on, AGGREGATES[:1], measures.FEW_THREADS),
        "lib-add-spread": partial(library.measure_on, AGGREGATES, measures.FEW_THREADS),
    }
    got = rounds.run(todo, chosen.pair_seconds, min(3, chosen.pairs), lambda name: BESIDE[name])
    return {"beside": {name: rounds.stored(each) for name, each in got.items()}}
