"""Everything that can be measured, by name: `http-` the service, `sql` raw SQL by pgbench, `lib` the library alone."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from bench import imports
from bench.library import Library
from bench.measured import Measured
from bench.rawsql import SKUS, RawSql
from bench.service import BATCH, HOT, SPREAD, Started
from bench.site import PROCESSES, Site

Measure = Callable[[float], Measured]  # given how many seconds to run

SCHEMA = "bench_service"
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
    "import": "stockledger import, movements, 1,000 SKUs",
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
    ("import", "sql-add-spread", "import: events / SQL transaction, spread"),
    ("import", "sql1-add-spread", "import: events / SQL single statement, spread"),
    ("http-get-hot", "http-nothing", "service: GET / a route that does nothing"),
    ("http-add-hot", "http-add-spread", "service: hot add / spread add"),
    ("sql-add-hot", "sql-add-spread", "SQL transaction: hot add / spread add"),
    ("http-add-hot", "lib-add-hot", "hot add: service / library"),
    ("http-add-hot", "lib4-add-hot", f"hot add: service / library with {FEW_THREADS} threads"),
    ("http-add-spread", "lib-add-spread", "spread add: service / library"),
    ("http-add-spread", "lib4-add-spread", f"spread add: service / library with {FEW_THREADS} threads"),
)


# What the ratios should at least be.
GOALS = {
    ("http-add-hot", "sql-add-hot"): "3",
    ("http-add-spread", "sql-add-spread"): "0.6",
    ("http-batch", "sql-add-spread"): "3",
    ("import", "sql-add-spread"): "4",
    ("http-get-hot", "http-nothing"): "0.5",
}

# The commands of which `python -m bench.budget` tells where their time goes.
KINDS = {
    "add-hot": "add, one hot SKU",
    "add-spread": "add, 1,000 SKUs",
    "reserve-hot": "reserve, one hot SKU",
    "batch": f"adds in batches of {BATCH}, 1,000 SKUs",
    "get-hot": "GET, one hot SKU",
    "nothing": "a route that does nothing",
}

# What the service is asked in the measurements named `http-`.
ASKED = {
    "http-add-hot": ("POST", "/add/1", (HOT,)),
    "http-add-spread": ("POST", "/add/1", SPREAD),
    "http-reserve-hot": ("POST", "/reserve/1", (HOT,)),
    "http-get-hot": ("GET", "", (HOT,)),
    "http-get-spread": ("GET", "", SPREAD),
}


def of_service(site: Site, service: Started, connections: int) -> dict[str, Measure]:
    """The measurements over HTTP, and of an import beside the idle service."""

    def load(requests: list[bytes], callers: int, seconds: float) -> Measured:
        return site.load(service, requests, callers, seconds)

    nothing = [service.request("GET", "/health/live")]
    return {name: partial(load, requests(service, name), connections) for name in ASKED} | {
        "http-nothing": partial(load, nothing, connections),
        "http-add-one": partial(load, requests(service, "http-add-hot"), 1),
        "http-batch": partial(in_batches, site, service),
        "import": partial(imports.measure, site, SCHEMA),
    }


def requests(service: Started, name: str) -> list[bytes]:
    """The requests of one measurement, ready for the wire."""
    method, call, skus = ASKED[name]
    return [service.request(method, f"/api/fungible/{sku}{call}") for sku in skus]


def in_batches(site: Site, service: Started, seconds: float) -> Measured:
    """Adds over the 1,000 SKUs, in commands; latencies are those of whole requests."""
    starts = range(0, len(SPREAD), BATCH)
    batches = [service.request("POST", "/api/batch", batch(SPREAD[start : start + BATCH])) for start in starts]
    got = site.load(service, batches, BATCH_CONNECTIONS, seconds)
    return replace(got, rate=got.rate * BATCH)


def batch(skus: Sequence[str]) -> str:
    """The body of a request that adds one to each SKU."""
    return json.dumps({"commands": [{"command": "add", "sku": sku, "quantity": 1} for sku in skus]})


def raw_sql(site: Site, clients: int) -> RawSql:
    """pgbench with as many clients, on as many threads as they can use."""
    return RawSql(site.url, site.bin_dir, clients, min(clients, PROCESSES))


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
