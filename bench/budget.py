"""Where the time goes: processor time, statements, transactions and log writes of a command: `python -m bench.budget`.

All from outside, by the counters of Linux and PostgreSQL before and after a load, so that nothing slows what it counts
(pg_stat_statements excepted, which --no-statements leaves out).
"""

import argparse
import os
import resource
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench import history, measures, page, processes, results
from bench.measured import Measured
from bench.measures import KINDS
from bench.processes import Cpu
from bench.service import HOT, Started
from bench.site import Site, say, standing

SCHEMA = "bench_budget"
SETTLE_SECONDS = 2.0  # PostgreSQL's processes report what they counted once a second
TOP_STATEMENTS = 8
STATEMENT_CHARACTERS = 100
BACKGROUND = ("walwriter", "checkpointer", "background writer", "autovacuum", "io worker", "logical replication")
_COUNTERS = """
SELECT
    (SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()) AS transactions,
    pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') AS wal_bytes,
    (SELECT coalesce(sum(fsyncs), 0) FROM pg_stat_io WHERE object = 'wal') AS wal_syncs
"""
_OLDER_COUNTERS = _COUNTERS.replace("(SELECT coalesce(sum(fsyncs), 0) FROM pg_stat_io WHERE object = 'wal')", "NULL")
_APPENDS = """
SELECT count(*), count(DISTINCT recorded_at) FROM stored_events WHERE notification_id > %s
"""
_STATEMENTS = """
SELECT query, calls, total_exec_time * 1000 AS microseconds FROM public.pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query NOT LIKE '%%pg_stat%%'
ORDER BY total_exec_time DESC LIMIT %s
"""


@dataclass(frozen=True)
class Usage:
    """Processor time so far, by group of processes, and of the whole machine."""

    groups: dict[str, Cpu]
    whole: Cpu
    idle: float


def main() -> int:
    chosen = parse_arguments()
    preload = {} if chosen.no_statements else {"shared_preload_libraries": "pg_stat_statements"}
    load_average = os.getloadavg()[0]
    with standing(chosen.workers, chosen.threads, chosen.generator, preload) as site:
        results.keep("budget", measure(site, chosen), site, chosen, load_average)
    page.write(chosen.results)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.budget", description="Where the time of a command goes.")
    parser.add_argument("--seconds", type=float, default=8, help="length of one measurement (default: 8)")
    parser.add_argument("--connections", type=int, default=64, help="callers at a time (default: 64)")
    parser.add_argument("--no-statements", action="store_true", help="without pg_stat_statements and what it costs")
    results.add_arguments(parser)
    return parser.parse_args()


def measure(site: Site, chosen: argparse.Namespace) -> dict[str, Any]:
    """One entry a kind of command."""
    with site.service(SCHEMA) as service:
        service.fill()
        if not chosen.no_statements:
            with site.connect("public") as conn:
                conn.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        kinds = {
            kind: counted(site, service, kind, chosen.connections, chosen.seconds, statements=not chosen.no_statements)
            for kind in KINDS
        }
    return {"seconds": chosen.seconds, "connections": chosen.connections, "kinds": kinds}


def counted(
    site: Site, service: Started, kind: str, connections: int, seconds: float, *, statements: bool
) -> dict[str, Any]:
    """Load the service with one kind of command; what one command took, in microseconds by group of processes."""
    load = loads(site, service, connections)[kind]
    load(1.0)
    time.sleep(SETTLE_SECONDS)
    with site.connect(SCHEMA) as conn:
        if statements:
            conn.execute("SELECT public.pg_stat_statements_reset()")
        counters = _COUNTERS if conn.info.server_version >= 180_000 else _OLDER_COUNTERS
        postmaster = processes.parent(history.number(conn, "SELECT pg_backend_pid()"))
        position, before = history.count(conn), conn.execute(counters).fetchone()
        usage, began = use(service, postmaster, site.threads), time.monotonic()
        got = load(seconds)
        took, used = time.monotonic() - began, use(service, postmaster, site.threads)
        time.sleep(SETTLE_SECONDS)
        after = conn.execute(counters).fetchone()
        events, appends = conn.execute(_APPENDS, [position]).fetchone() or (0, 0)
        # Each of these commands is one event, except those that only read.
        commands = max(1.0, events or got.rate * seconds)
        top = conn.execute(_STATEMENTS, [TOP_STATEMENTS]).fetchall() if statements else []
    assert before is not None and after is not None
    transactions, wal_bytes, wal_syncs = (
        None if b is None else float(a - b) for a, b in zip(after, before, strict=True)
    )
    result = {
        "rate": round(got.rate),
        "commands": round(commands),
        "groups": {name: (used.groups[name] - usage.groups[name]).per(commands) for name in used.groups},
        "machine": (used.whole - usage.whole).per(commands) | {"idle": (used.idle - usage.idle) * 1e6 / commands},
        "wall": took * 1e6 / commands,
        "commands_per_append": events / appends if appends else None,
        "commands_per_transaction": commands / transactions if transactions else None,
        "wal_bytes": wal_bytes and wal_bytes / commands,
        "wal_syncs": wal_syncs and wal_syncs / commands,
        "statements": [
            {
                "query": " ".join(q.split())[:STATEMENT_CHARACTERS],
                "calls": calls / commands,
                "microseconds": us / commands,
            }
            for q, calls, us in top
        ],
    }
    say(f"{KINDS[kind]}: {got.rate:,.0f}/s, {result['wall']:.0f} us each, {result['groups']}")
    return result


def loads(site: Site, service: Started, connections: int) -> dict[str, measures.Measure]:
    def load(requests: list[bytes], seconds: float) -> Measured:
        return site.load(service, requests, connections, seconds)

    http = {kind: measures.requests(service, f"http-{kind}") for kind in ("add-hot", "add-spread", "get-hot")}
    http["reserve-hot"] = [service.request("POST", f"/api/fungible/{HOT}/reserve/1")]
    http["nothing"] = [service.request("GET", "/health/live")]
    found: dict[str, measures.Measure] = {kind: partial(load, requests) for kind, requests in http.items()}
    return found | {"batch": partial(measures.in_batches, site, service)}


def use(service: Started, postmaster: int, threads: int) -> Usage:
    """Processor time by now. A worker's main thread is its event loop."""
    workers, others = processes.split(service.pid, threads)
    backends, background = [], []
    for pid in processes.children(postmaster):
        title = processes.title(pid)
        (background if any(name in title for name in BACKGROUND) else backends).append(pid)
    loops = [processes.cpu(pid, pid) for pid in workers]
    threads_beside = [
        processes.cpu(pid, thread) for pid in workers for thread in processes.threads(pid) if thread != pid
    ]
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    whole, idle = processes.machine()
    groups = {
        "event loops of the workers": total(loops),
        "other threads of the workers": total(threads_beside),
        "expiry and follower": total([processes.cpu(pid) for pid in others]),
        "PostgreSQL backends": total([processes.cpu(pid) for pid in backends]),
        "PostgreSQL's own processes": total([processes.cpu(pid) for pid in (*background, postmaster)]),
        "load generator": Cpu(spent.ru_utime, spent.ru_stime),
    }
    return Usage(groups, whole, idle)


def total(parts: list[Cpu]) -> Cpu:
    return sum(parts, Cpu())


if __name__ == "__main__":
    sys.exit(main())
