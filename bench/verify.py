"""`python -m bench.verify`: how fast verify replays a long log, beside PostgreSQL's COPY of the same rows to /dev/null.

The log is made of adds by SQL (`history.grow`) and of carts through the ledger, of which most have ended. Each round
copies, verifies the ledger, and verifies an export of it; rates and memory are of the program as an operator runs it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.history import grow
from bench.service import SPREAD
from ledger.commands import Command
from ledger.engine.ledger import Ledger
from ledger.reservations.commands import Line, MakeReservation, PurchaseReservation, ReleaseReservation
from ledger.rooms import ROOMS
from ledger.stock.commands import AddStock, PutFungible
from ledger.store.connection import connect
from ledger.store.embedded.server import EmbeddedPostgres
from ledger.store.migrate import migrate
from projections.following.projection_runner import Follower
from projections.inline import InlineReadModels

SCHEMA = "bench_verify"
CARTS_AT_ONCE = 400
STOCK = 1_000_000_000
COPY = """
COPY (
    SELECT notification_id, recorded_at, originator_id, originator_version, topic, state
    FROM stored_events ORDER BY notification_id
) TO '/dev/null'
"""


def fill(url: str, events: int, carts: int) -> None:
    """A log of `events`, among them those of so many carts: a third bought, a third given back, a third left open."""
    ledger = Ledger(url, SCHEMA, ROOMS, InlineReadModels())
    ledger.handle_many([PutFungible(sku=sku, amount_in_stock=STOCK) for sku in SPREAD])
    for start in range(0, carts, CARTS_AT_ONCE):
        commands: list[Command] = []
        for number in range(start, min(start + CARTS_AT_ONCE, carts)):
            reservation_id = uuid.uuid4()
            line = Line(SPREAD[number % len(SPREAD)], 1 + number % 3)
            owner = f"customer {number}"
            commands.append(
                MakeReservation(reservation_id=reservation_id, lines=(line,), ttl_seconds=86_400, owner=owner)
            )
            if number % 3 == 0:
                commands.append(PurchaseReservation(reservation_id=reservation_id, purchase_id=uuid.uuid4()))
            elif number % 3 == 1:
                commands.append(ReleaseReservation(reservation_id=reservation_id))
        ledger.handle_many(commands)
    ledger.handle_many([AddStock(sku=SPREAD[0], quantity=1)])
    ledger.close()
    with connect(url, SCHEMA) as conn:
        conn.execute("SET statement_timeout = 0")
        grow(conn, SCHEMA, events)
    follower = Follower(url, SCHEMA)
    while not follower.step():
        pass
    follower.close()


def copy(url: str) -> float:
    """Seconds that COPY takes."""
    with connect(url, SCHEMA) as conn:
        conn.execute("SET statement_timeout = 0")
        began = time.perf_counter()
        conn.execute(COPY)
        return time.perf_counter() - began


def run(url: str, arguments: Sequence[str]) -> tuple[float, int, float, str]:
    """Run `stockledger`; returns seconds, its most memory in bytes, its processor seconds, and what it printed."""
    program = Path(sys.executable).parent / "stockledger"
    environ = {**os.environ, "DATABASE_URL": url, "STOCKLEDGER_SCHEMA": SCHEMA}
    began = time.perf_counter()
    process = subprocess.Popen([program, *arguments], env=environ, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"stockledger {' '.join(arguments)} ended with {process.returncode}: {printed[:2000]}")
    return seconds, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime, printed


def measure(url: str, folder: Path, rounds: int) -> None:
    export = folder / "export"
    run(url, ["export", str(export)])
    ratios: dict[str, list[float]] = {"verify": [], "verify --from-export": []}
    for number in range(1, rounds + 1):
        copied = copy(url)
        for name, arguments in (("verify", []), ("verify --from-export", ["--from-export", str(export)])):
            seconds, memory, processor, printed = run(url, ["verify", "--json", *arguments])
            entries = json.loads(printed)["entries"]
            ratios[name].append(copied / seconds)
            print(
                f"round {number}: {entries:,} events, COPY {entries / copied:,.0f}/s; {name} {entries / seconds:,.0f}/s"
                f" ({copied / seconds:.2f} of COPY), {processor / entries * 1e6:.2f} µs of processor an event,"
                f" {memory / 2**20:.0f} MiB",
                flush=True,
            )
    for name, found in ratios.items():
        print(f"{name}: {median(found):.2f} of COPY (median of {rounds})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="in the log (default: %(default)s)")
    parser.add_argument("--carts", type=int, default=60_000, help="among them (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="stockledger-bench-", dir="/tmp"))
    folder.chmod(0o755)  # PostgreSQL runs as another user when we are root
    try:
        with EmbeddedPostgres.start(folder / "data") as postgres:
            migrate(postgres.url, SCHEMA)
            fill(postgres.url, chosen.events, chosen.carts)
            measure(postgres.url, folder, chosen.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
