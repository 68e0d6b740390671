"""Everything that can be measured, by name: `http-` the service, `sql` raw SQL by pgbench, `lib` the library alone."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from bench import load, wrk
from bench.library import Library
from bench.load import http_request
from bench.measured import Measured
from bench.rawsql import SKUS, RawSql
from bench.service import HOT, SPREAD, Started

Measure = Callable[[float], Measured]  # given how many seconds to run

GENERATORS = {"wrk": wrk.measure, "own": load.measure}
PROCESSES = min(2, os.cpu_count() or 1)  # of a load; more would only take the processor away from the service
BATCH = 500  # commands in one request
BATCH_CONNECTIONS = 8
FEW_THREADS = 4  # where the library is at its best on one aggregate: fewer callers, fewer conflicts

TITLES = {
    "http-add-hot": "service, add, one hot SKU",
    "http-add-spread": "service, add, 1,000 SKUs",
    "http-reserve-hot": "service, reserve, one hot SKU",
    "http-get-hot": "service, GET, one hot SKU",
    "http-get-spread": "service, GET, 1,000 SKUs",
    "http-nothing": "service, a route that does nothing",
    "http-add-one": "service, add, one connection",
    "http-batch": f"service, adds in batches of {BATCH}, 1,000 SKUs",
    "sql-add-hot": "SQL transaction, add, one hot row",
    "sql-add-spread": "SQL transaction, add, 1,000 rows",
    "sql-reserve-hot": "SQL transaction, reserve, one hot row",
    "sql1-add-hot": "SQL single statement, add, one hot row",
    "sql1-add-spread": "SQL single statement, add, 1,000 rows",
    "sql1-reserve-hot": "SQL single statement, reserve, one hot row",
    "lib-add-hot": "library, add, one hot aggregate",
    "lib-add-spread": "library, add, 1,000 aggregates",
    "lib4-add-hot": f"library, {FEW_THREADS} threads, add, one hot aggregate",
    "lib4-add-spread": f"library, {FEW_THREADS} threads, add, 1,000 aggregates",
}

# What to divide by what, and how to say it.
RATIOS = (
    ("http-add-hot", "sql-add-hot", "hot add: service / SQL transaction"),
    ("http-add-hot", "sql1-add-hot", "hot add: service / SQL single statement"),
    ("http-add-spread", "sql-add-spread", "spread add: service / SQL transaction"),
    ("http-add-spread", "sql1-add-spread", "spread add: service / SQL single statement"),
    ("http-reserve-hot", "sql-reserve-hot", "hot reserve: service / SQL transaction"),
    ("http-reserve-hot", "sql1-reserve-hot", "hot reserve: service / SQL single statement"),
    ("http-batch", "sql-add-spread", "batch: service / SQL transaction, spread"),
    ("http-batch", "sql1-add-spread", "batch: service / SQL single statement, spread"),
    ("http-get-hot", "http-nothing", "service: GET / a route that does nothing"),
    ("http-add-hot", "http-add-spread", "service: hot add / spread add"),
    ("sql-add-hot", "sql-add-spread", "SQL transaction: hot add / spread add"),
    ("http-add-hot", "lib-add-hot", "hot add: service / library"),
    ("http-add-hot", "lib4-add-hot", f"hot add: service / library with {FEW_THREADS} threads"),
    ("http-add-spread", "lib-add-spread", "spread add: service / library"),
    ("http-add-spread", "lib4-add-spread", f"spread add: service / library with {FEW_THREADS} threads"),
)


def of_service(service: Started, generator: str, connections: int) -> dict[str, Measure]:
    """The measurements over HTTP."""
    host = f"{service.address[0]}:{service.address[1]}"
    asked = {
        "http-add-hot": ("POST", "/add/1", (HOT,)),
        "http-add-spread": ("POST", "/add/1", SPREAD),
        "http-reserve-hot": ("POST", "/reserve/1", (HOT,)),
        "http-get-hot": ("GET", "", (HOT,)),
        "http-get-spread": ("GET", "", SPREAD),
    }
    load = partial(GENERATORS[generator], service.address)

    def measure(name: str, callers: int, seconds: float) -> Measured:
        method, call, skus = asked[name]
        requests = [http_request(method, f"/api/fungible/{sku}{call}", host) for sku in skus]
        return load(requests, callers, seconds, min(callers, PROCESSES))

    def measure_nothing(seconds: float) -> Measured:
        return load([http_request("GET", "/health/live", host)], connections, seconds, PROCESSES)

    def measure_batch(seconds: float) -> Measured:
        """In commands; latencies are those of whole requests."""
        batches = [SPREAD[start : start + BATCH] for start in range(0, len(SPREAD), BATCH)]
        got = load(
            [http_request("POST", "/api/batch", host, batch(s)) for s in batches], BATCH_CONNECTIONS, seconds, PROCESSES
        )
        return replace(got, rate=got.rate * BATCH)

    return {name: partial(measure, name, connections) for name in asked} | {
        "http-nothing": measure_nothing,
        "http-add-one": partial(measure, "http-add-hot", 1),
        "http-batch": measure_batch,
    }


def batch(skus: Sequence[str]) -> str:
    """The body of a request that adds one to each SKU."""
    return json.dumps({"commands": [{"command": "add", "sku": sku, "quantity": 1} for sku in skus]})


def of_raw_sql(sql: RawSql) -> dict[str, Measure]:
    """The measurements by pgbench."""
    return {
        f"{short}-{command}-{where}": partial(sql.measure, way, command, skus)
        for short, way in (("sql", "transaction"), ("sql1", "statement"))
        for command, where, skus in (("add", "hot", 1), ("add", "spread", SKUS), ("reserve", "hot", 1))
    }


def of_library(library: Library, connections: int) -> dict[str, Measure]:
    """The measurements of the library's own pattern."""
    return {
        f"{short}-add-{where}": partial(library.measure, skus, threads)
        for short, threads in (("lib", connections), ("lib4", FEW_THREADS))
        for where, skus in (("hot", 1), ("spread", SKUS))
    }
