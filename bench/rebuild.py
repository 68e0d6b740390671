"""`python -m bench.rebuild`: how fast read models are made anew, and what that costs a service under full load.

Three figures for the same log of carts: what COPY sends of it in a second, what `stockledger rebuild` folds in a
second beside an idle service, and how many adds the service does before, during and after a rebuild of everything.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from bench import carts, load
from bench.measured import Measured, number
from bench.service import SPREAD, Started, environ, program, running_service
from ledger.store.connection import Connection, connect
from ledger.store.embedded.server import EmbeddedPostgres
from ledger.store.migrate import migrate
from projections.following.projection_runner import Follower

SCHEMA = "stockledger"
CONNECTIONS = 32
WORKERS, THREADS = 2, 32
_COPY = """
COPY (
    SELECT notification_id, recorded_at, originator_id, originator_version, topic, state
    FROM stored_events ORDER BY notification_id
) TO STDOUT (FORMAT binary)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.rebuild", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="events in the log (default 1000000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load before and after (default 10)")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="stockledger-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user when this runs as root
        with EmbeddedPostgres.start(folder / "data") as postgres:
            migrate(postgres.url, SCHEMA)
            with connect(postgres.url, SCHEMA) as conn:
                conn.execute("SET statement_timeout = 0")
                events = carts.write(conn, given.events)
                sent = copied(conn, events)
            print(f"COPY sends        {number(sent)} events a second", flush=True)
            rebuild(postgres.url)  # there is a log now, and no read model of it yet
            alone(postgres.url, events, sent)
            follows(postgres.url, events, sent)
            with running_service(folder, postgres.url, SCHEMA, WORKERS, THREADS) as service:
                service.fill()
                under_load(service, postgres.url, given.seconds)
    return 0


def alone(url: str, events: int, sent: float) -> None:
    """Tell how fast a rebuild is when nobody writes, and how much of a processor Python takes for it."""
    cpu, began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.perf_counter()
    folded = rate(rebuild(url))
    seconds = time.perf_counter() - began
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - cpu
    whole = events / seconds
    print(f"rebuild folds     {number(folded)} events a second, {folded / sent:.3f} of it", flush=True)
    print(f"all of it         {number(whole)} events a second, {whole / sent:.3f} of it: compared and in place, too")
    print(
        f"Python            {cpu / events * 1e6:.1f} microseconds an event; the machine's load {os.getloadavg()[0]:.1f}"
    )


def follows(url: str, events: int, sent: float) -> None:
    """Tell how fast the models that follow catch up from nothing."""
    with connect(url, SCHEMA) as conn:
        conn.execute("TRUNCATE following, movements_daily, valuations_daily, valued_products, valued_items")
    follower = Follower(url, SCHEMA)
    cpu, began = time.process_time(), time.perf_counter()
    while follower.step() == 0.0:
        pass
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    follower.close()
    each = cpu / events * 1e6
    print(f"following         {number(events / seconds)} events a second, {events / seconds / sent:.3f} of it")
    print(f"Python            {each:.1f} microseconds an event, both models", flush=True)


def copied(conn: Connection, events: int) -> float:
    """Events that COPY sends in a second to somebody who throws them away; the better of two."""
    best = 0.0
    for _ in range(2):
        started = time.perf_counter()
        with conn.cursor() as cursor, cursor.copy(_COPY.encode()) as copy:
            for _block in copy:
                pass
        best = max(best, events / (time.perf_counter() - started))
    return best


def rebuild(url: str) -> str:
    """What `stockledger rebuild` prints, once it has ended."""
    command = [program(), "rebuild"]
    done = subprocess.run(command, env=environ({"SCHEMA": SCHEMA}, url), capture_output=True, text=True, check=False)
    if "in place" not in done.stdout:
        raise RuntimeError(f"stockledger rebuild ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def rate(printed: str) -> float:
    found = re.search(r"([\d,]+) a second", printed)
    assert found is not None, "it tells its rate"
    return float(found[1].replace(",", ""))


def under_load(service: Started, url: str, seconds: float) -> None:
    requests = [service.request("POST", f"/api/fungible/{sku}/add/1") for sku in SPREAD]

    def adds(for_seconds: float) -> Measured:
        return load.measure(service.address, requests, CONNECTIONS, for_seconds, 2)

    def tell(when: str, measured: Measured, of: float) -> None:
        share, p99 = measured.rate / of, measured.p99_ms
        print(
            f"{when:17} {number(measured.rate)} adds a second ({share:.2f}), p99 {p99:.1f} ms, {measured.errors} failed"
        )

    before = adds(seconds)
    tell("before", before, before.rate)
    printed: list[str] = []
    work = threading.Thread(target=lambda: printed.append(rebuild(url)))
    began = time.perf_counter()
    work.start()
    while work.is_alive():
        tell("during", adds(seconds), before.rate)
    work.join()
    tell("after", adds(seconds), before.rate)
    print(f"rebuilt within    {time.perf_counter() - began - seconds:.0f} s:\n{''.join(printed)}", end="")


if __name__ == "__main__":
    sys.exit(main())
