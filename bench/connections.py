"""Rate and latency of an add against the number of callers at a time: the service, raw SQL, the library."""

import argparse
from functools import partial
from typing import Any

from bench import measures, rounds
from bench.library import Library
from bench.measures import Measure
from bench.rawsql import SKUS
from bench.service import Started
from bench.site import PROCESSES, Site, say

CONNECTIONS = (1, 4, 16, 64, 256)
MOST_THREADS = 64  # of the library, which only gets slower with more
PLACES = {"hot": ("one hot SKU", 1), "spread": ("1,000 SKUs", SKUS)}
SERIES = {"http": "service", "sql": "SQL transaction", "sql1": "SQL single statement", "lib": "library"}


def measure(site: Site, chosen: argparse.Namespace) -> dict[str, Any]:
    """The rounds at each point: where, whose, how many connections."""
    sql, library = measures.raw_sql(site, 1), Library(site.url, PROCESSES)
    sql.prepare()
    library.prepare()
    say("starting the service")
    with site.service(measures.SCHEMA) as service:
        service.fill()
        todo = {
            (place, series, count): found
            for place in PLACES
            for count in chosen.points
            for series, found in at(site, service, library, place, count).items()
        }
        got = rounds.run(todo, chosen.seconds, chosen.rounds, title, partial(site.settle, measures.SCHEMA))
    points = [
        {"place": place, "series": series, "connections": count, "rounds": rounds.stored(each)}
        for (place, series, count), each in got.items()
    ]
    return {"seconds": chosen.seconds, "points": points}


def title(point: tuple[str, str, int]) -> str:
    place, series, count = point
    return f"{SERIES[series]}, add, {PLACES[place][0]}, {count} connections"


def at(site: Site, service: Started, library: Library, place: str, count: int) -> dict[str, Measure]:
    """What is measured at one number of connections."""
    skus = PLACES[place][1]
    asked, sql = measures.requests(service, f"http-add-{place}"), measures.raw_sql(site, count)

    def over_http(seconds: float) -> Any:
        return site.load(service, asked, count, seconds)

    found: dict[str, Measure] = {
        "http": over_http,
        "sql": partial(sql.measure, "transaction", "add", skus),
        "sql1": partial(sql.measure, "statement", "add", skus),
    }
    if count <= MOST_THREADS:
        found["lib"] = partial(library.measure, skus, count)
    return found
