"""`python -m bench.reporting`: what reports over the full log cost the writers beside them.

Over HTTP those of everything there is, and in SQL, as a reporting job would, one that decodes every event.

The load runs in turns, alone and with reports being read one after another over HTTP, so that both meet the same
machine; the median of each is told. Nothing is written into RESULTS.md.
"""

import argparse
import http.client
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from bench import history, measures
from bench.measured import Measured, middle
from bench.service import Started
from bench.site import Site, say, standing
from ledger.store.roles import reporting_role, reporting_schema

SCHEMA = "bench_reporting"
LOADS = ("http-reserve-hot", "http-add-spread")
# Each goes over all there is of its kind.
REPORTS = (
    "stock",
    "stock?at_position={head}",
    "movements?from=2020-01-01",
    "reservations?from=2020-01-01",
    "valuation?from=2020-01-01&by=day,sku",
    "shortages?from=2020-01-01",
)


# Every event, decoded; as the role of reporting jobs.
JOB = """
SELECT event, count(*), sum((data ->> 'quantity')::bigint) FROM {schema}.events GROUP BY event
"""


class Reading(threading.Thread):
    """Reads reports in turn until it is told to stop."""

    def __init__(self, site: Site, service: Started, paths: list[str]) -> None:
        super().__init__(daemon=True)
        self._site = site
        self._address = service.address
        self._paths = paths
        self.stopping = False
        self.seconds: dict[str, list[float]] = {path: [] for path in (*paths, "sql")}
        self.refused = 0

    def run(self) -> None:
        job = JOB.format(schema=reporting_schema(SCHEMA)).encode()
        with (
            closing(http.client.HTTPConnection(*self._address, timeout=120)) as connection,
            self._site.connect(SCHEMA) as conn,
        ):
            conn.execute(f"SET ROLE {reporting_role(SCHEMA)}".encode())
            while not self.stopping:
                for path in self._paths:
                    started = time.monotonic()
                    connection.request("GET", f"/api/reports/{path}")
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status == 200:
                        self.seconds[path].append(time.monotonic() - started)
                    else:
                        self.refused += 1
                started = time.monotonic()
                conn.execute(job).fetchall()
                self.seconds["sql"].append(time.monotonic() - started)


@contextmanager
def reading(site: Site, service: Started, paths: list[str]) -> Iterator[Reading]:
    thread = Reading(site, service, paths)
    thread.start()
    try:
        yield thread
    finally:
        thread.stopping = True
        thread.join()


def measure(site: Site, chosen: argparse.Namespace) -> None:
    with site.service(SCHEMA) as service, site.connect(SCHEMA) as conn:
        service.fill()
        events = history.grow(conn, SCHEMA, chosen.events)
        site.settle(SCHEMA, limit_seconds=600)
        say(f"{events} events in the log")
        paths = [path.format(head=events) for path in REPORTS]
        for name in LOADS:
            requests = measures.requests(service, name)
            alone: list[Measured] = []
            beside: list[Measured] = []
            for number in range(chosen.rounds + 1):
                seconds = chosen.seconds if number else 2.0
                first = site.load(service, requests, chosen.connections, seconds)
                with reading(site, service, paths) as readings:
                    second = site.load(service, requests, chosen.connections, seconds)
                if number:
                    alone.append(first)
                    beside.append(second)
            tell(name, middle(alone), middle(beside), readings)


def tell(name: str, alone: Measured, beside: Measured, readings: Reading) -> None:
    for title, got in (("alone", alone), ("beside reports", beside)):
        print(
            f"{name:<18} {title:<15} {got.rate:>8.0f}/s  p50 {got.p50_ms:6.1f} ms  p99 {got.p99_ms:6.1f} ms"
            f"  errors {got.errors}"
        )
    print(f"{name:<18} p99 times {beside.p99_ms / alone.p99_ms:.2f}, rate times {beside.rate / alone.rate:.2f}")
    done = ", ".join(
        f"{path.partition('?')[0]} {len(s)} in {sum(s) / len(s):.2f} s" for path, s in readings.seconds.items() if s
    )
    print(f"{'':<18} reports in the last round: {done}; refused {readings.refused}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.reporting", description="Writers beside reports.")
    parser.add_argument("--events", type=int, default=1_000_000, help="in the log (default: a million)")
    parser.add_argument("--seconds", type=float, default=6, help="length of one measurement (default: 6)")
    parser.add_argument("--rounds", type=int, default=3, help="how often (default: 3)")
    parser.add_argument("--connections", type=int, default=64, help="callers at a time (default: 64)")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is stopped then, too
    with standing(2, 32, "own", {}) as site:
        measure(site, chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
