"""Drive a running Stockledger with two real trading days, then reconcile every level it reports.

What happens: every product is registered and its opening stock received; then, in the order of the file, each invoice
line reserves its goods, each write-off removes them and each cancellation adds them back. What every level must be in
the end is computed beside it in `trading_day.py` (what was there before, plus the moves of this run) and compared with
what the service says. Run it as often as you like: levels are read first, and no hold made here ends within 30 days.
"""

import argparse
import contextlib
import csv
import gzip
import http.client
import json
import os
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tqdm import tqdm
from trading_day import (
    Level,
    Line,
    Step,
    day_steps,
    differences,
    expected_levels,
    opening_steps,
    opening_stock,
    read_lines,
)

DATA = Path(__file__).parent / "data" / "online-retail-2010-12-01-and-02.csv.gz"
DEFAULT_URL = "http://127.0.0.1:8000"
MAX_ATTEMPTS = 8
MAX_PAUSE_SECONDS = 10.0
TIMEOUT_SECONDS = 30.0


class DemoError(Exception):
    """The service is not there, or gave an answer that the demo cannot go on from."""


class Client:
    """One keep-alive connection. Not for sharing between threads."""

    def __init__(self, url: str, api_key: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DemoError(f"not an http URL: {url}")
        make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = make(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS)
        self._base = parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def close(self) -> None:
        self._connection.close()

    def once(
        self, method: str, path: str, body: object = None, key: str | None = None
    ) -> tuple[int, Any, float | None]:
        """Status, decoded body, Retry-After in seconds. Raises OSError or HTTPException when the connection fails."""
        headers = dict(self._headers)
        if key:
            headers["Idempotency-Key"] = key
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            payload = None if body is None else json.dumps(body).encode()
            self._connection.request(method, self._base + path, payload, headers)
            response = self._connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        with contextlib.suppress(ValueError):
            return response.status, json.loads(raw), pause_of(response.getheader("Retry-After"))
        return response.status, {"detail": raw[:200].decode("utf-8", "replace")}, None

    def call(self, method: str, path: str, body: object = None, key: str | None = None) -> tuple[int, Any]:
        """Status and body, after as many attempts as it takes: safe because a write carries its own key.

        Raises DemoError when the connection still fails, or the service is still busy, after MAX_ATTEMPTS.
        """
        problem, pause = "", 0.0
        for attempt in range(MAX_ATTEMPTS):
            time.sleep(min(MAX_PAUSE_SECONDS, pause))
            pause = 0.1 * 2**attempt
            try:
                status, answer, asked = self.once(method, path, body, key)
                if status not in (429, 503):
                    return status, answer
                problem, pause = f"{status}: {answer}", pause if asked is None else asked
            except (OSError, http.client.HTTPException) as error:
                problem = str(error) or type(error).__name__
        raise DemoError(f"{method} {path} failed {MAX_ATTEMPTS} times, last with {problem}")


def pause_of(retry_after: str | None) -> float | None:
    """Seconds that a Retry-After header asks for; None if it is missing or a date."""
    return float(retry_after) if retry_after and retry_after.isdigit() else None


def shares(work: list[tuple[str, Any]], callers: int) -> list[list[Any]]:
    """The work of each caller: a SKU belongs to one caller, so that its lines stay in order."""
    found: list[list[Any]] = [[] for _ in range(callers)]
    caller_of = {sku: index % callers for index, sku in enumerate(dict.fromkeys(sku for sku, _ in work))}
    for sku, thing in work:
        found[caller_of[sku]].append(thing)
    return found


@dataclass(frozen=True)
class Demo:
    """How to reach the service, and with how many callers at once."""

    url: str
    callers: int
    api_key: str | None = None

    def check_service(self) -> None:
        """Raise DemoError unless the service is there and ready."""
        client = Client(self.url, self.api_key)
        try:
            status, answer, _ = client.once("GET", "/health/ready")
        except (OSError, http.client.HTTPException) as error:
            raise DemoError(f"no Stockledger at {self.url} ({error}); start one with: make run") from None
        finally:
            client.close()
        if status != 200:
            raise DemoError(f"{self.url} is not a Stockledger that is ready: /health/ready says {status} {answer}")

    def each(self, title: str, work: list[tuple[str, Any]], do: Callable[[Client, Any], None]) -> float:
        """Do all work, given as (SKU, thing), what belongs to one SKU in order; return the seconds it took."""
        stop, lock, start = threading.Event(), threading.Lock(), time.monotonic()
        with tqdm(total=len(work), desc=title, disable=None) as bar, ThreadPoolExecutor(self.callers) as pool:

            def run(share: list[Any]) -> None:
                with contextlib.closing(Client(self.url, self.api_key)) as client:
                    for thing in share:
                        if stop.is_set():
                            return
                        do(client, thing)
                        with lock:
                            bar.update()

            try:
                for done in as_completed([pool.submit(run, share) for share in shares(work, self.callers)]):
                    done.result()
            finally:
                stop.set()  # when one caller fails, or the user interrupts, the others end too
        return time.monotonic() - start

    def levels(self, title: str, skus: Iterable[str]) -> dict[str, Level]:
        """Where each SKU stands now; a product that is not there yet stands at nothing."""
        found: dict[str, Level] = {}

        def look(client: Client, sku: str) -> None:
            status, item = client.call("GET", f"/api/fungible/{quote(sku, safe='')}")
            if status not in (200, 404):
                raise DemoError(f"GET of {sku} answered {status}: {item}")
            found[sku] = Level(item["amount_in_stock"], item["reserved_quantity"]) if status == 200 else Level(0, 0)

        self.each(title, [(sku, sku) for sku in skus], look)
        return found

    def write(self, title: str, steps: list[Step]) -> tuple[Counter[str], float]:
        """Send all steps; return how many of each kind went through (and how many were `refused`), and the seconds."""
        counts: Counter[str] = Counter()
        lock = threading.Lock()

        def send(client: Client, step: Step) -> None:
            status, answer = client.call(*step.request, step.body, step.key)
            refused = status == 409 and step.kind in ("remove", "reserve")
            if status != 200 and not refused:
                raise DemoError(f"{step.kind} {step.sku} answered {status}: {answer}")
            with lock:
                counts["refused" if refused else step.kind] += 1

        return counts, self.each(title, [(step.sku, step) for step in steps], send)


def run_demo(demo: Demo, lines: list[Line]) -> int:
    """Play the lines against the service, print what happened, return the exit code."""
    demo.check_service()
    run, opening = f"demo-{uuid.uuid4()}", opening_stock(lines)
    print(f"{len(lines)} lines, {len(opening)} products, {demo.callers} callers, {demo.url}")
    before = demo.levels("levels before", opening)
    opened, opening_seconds = demo.write("opening stock", opening_steps(lines, run))
    traded, trading_seconds = demo.write("two days", day_steps(lines, run))
    after = demo.levels("levels after", opening)
    writes, seconds = opened.total() + traded.total(), opening_seconds + trading_seconds
    print(
        f"registered {opened['register']} products; adds: {opened['add']} opening, {traded['add']} cancellations; "
        f"reservations: {traded['reserve']}; removals: {traded['remove']}; refused: {traded['refused']}"
    )
    print(f"{writes} writes in {seconds:.1f} s: {writes / seconds:,.0f}/s")
    wrong = differences(expected_levels(before, opening, lines), after)
    print(*wrong, f"reconciled: {len(after)} products, {len(wrong)} differences", sep="\n")
    return 1 if wrong else 0


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Play two real trading days (1 and 2 December 2010, 5,217 invoice lines) against a running "
        "Stockledger and reconcile every level. Exits 1 if a level differs, 2 if the service is not there."
    )
    parser.add_argument(
        "--base",
        default=os.environ.get("STOCKLEDGER_URL", DEFAULT_URL),
        help=f"URL of the service (default: STOCKLEDGER_URL, else {DEFAULT_URL})",
    )
    parser.add_argument("--key", default=os.environ.get("STOCKLEDGER_API_KEY"), help="API key, if the service asks one")
    parser.add_argument("--callers", type=int, default=8, help="connections at a time (default: 8)")
    parser.add_argument("--prefix", default="", help="put this in front of every SKU (default: the real SKUs)")
    chosen = parser.parse_args(arguments)
    if not 1 <= chosen.callers <= 256:
        parser.error("--callers must be from 1 to 256")
    return chosen


def main() -> int:
    chosen = parse_arguments()
    with gzip.open(DATA, "rt", encoding="utf-8", newline="") as file:
        lines = read_lines(csv.DictReader(file), chosen.prefix)
    try:
        return run_demo(Demo(chosen.base, chosen.callers, chosen.key), lines)
    except DemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
