"""`python -m bench.rebuild`: how fast read models are made anew, and what that costs a service under full load.

Three figures for the same log of carts: what COPY sends of it in a second, what `stockledger rebuild` folds in a
second beside an idle service, and how many adds the service does before, during and after a rebuild of everything.
"""

import argparse
import re
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
from ledger.store.embedded import EmbeddedPostgres
from ledger.store.migrate import migrate

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
            folded = rate(rebuild(postgres.url))
            print(f"rebuild folds     {number(folded)} events a second, {folded / sent:.3f} of it", flush=True)
            with running_service(folder, postgres.url, SCHEMA, WORKERS, THREADS) as service:
                service.fill()
                under_load(service, postgres.url, given.seconds)
    return 0


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
