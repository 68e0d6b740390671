"""How fast `stockledger import` records a file of movements: from the start of the program to its end."""

import subprocess
import time
import uuid

from bench.measured import Measured
from bench.service import SPREAD, environ, program
from bench.site import Site

ROWS_PER_SECOND = 25_000  # how long the file is made: about as many rows as can be imported in the time
LIMIT_SECONDS = 600


class ImportFailedError(Exception):
    """An import that failed."""


def measure(site: Site, schema: str, seconds: float) -> Measured:
    """Import a new file into the ledger `schema`, whose SKUs of SPREAD have stock; the rate is in rows, all events.

    There are no latencies. Raises ImportFailedError.
    """
    rows = round(ROWS_PER_SECOND * seconds)
    path = site.folder / "movements.csv"
    path.write_text(movements(rows))
    command = [program(), "import", "--kind", "movements", path]
    start = time.monotonic()
    done = subprocess.run(
        command,
        env=environ({"SCHEMA": schema}, site.url),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    took = time.monotonic() - start
    path.unlink()
    if done.returncode:
        raise ImportFailedError(f"stockledger import failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return Measured(rate=rows / took, p50_ms=0.0, p99_ms=0.0, errors=0)


def movements(rows: int) -> str:
    """A CSV file that adds one to each SKU in turn; no two files are alike, as the same file is imported only once."""
    run = uuid.uuid4().hex[:8]
    lines = (f"{SPREAD[number % len(SPREAD)]},1,add,{run}-{number}" for number in range(rows))
    return "\n".join(["sku,quantity,movement,reference", *lines]) + "\n"
