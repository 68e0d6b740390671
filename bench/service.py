"""A service under test: started on a free port for one ledger, filled with stock, stopped at the end."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load import http_request

READY_SECONDS = 120.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.01
HOST = "127.0.0.1"
HOT = "bench-hot"
SPREAD = tuple(f"bench-{number:04}" for number in range(1000))
STOCK = 1_000_000_000  # of each SKU, so that no reservation of a run is refused
BATCH = 500  # commands in one request
HOLD_SECONDS = 2_592_000  # the longest that a reservation may last


class ServiceError(Exception):
    """The service did not start, or did not do as it was asked."""


@dataclass(frozen=True)
class Started:
    """A service that is ready; `pid` is its parent process, `start_seconds` how long it took to become ready."""

    address: tuple[str, int]
    pid: int
    start_seconds: float

    def request(self, method: str, path: str, body: str = "") -> bytes:
        """A request for the wire."""
        return http_request(method, path, f"{self.address[0]}:{self.address[1]}", body)

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
        """Status and body of one answer."""
        with closing(http.client.HTTPConnection(*self.address, timeout=30)) as connection:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def do(self, commands: list[dict[str, Any]]) -> None:
        """Carry out any number of commands. Raises ServiceError if one is refused."""
        for start in range(0, len(commands), BATCH):
            status, answer = self.ask("POST", "/api/batch", json.dumps({"commands": commands[start : start + BATCH]}))
            refused = answer if status != 200 else next((r for r in answer["results"] if r["status"] >= 400), None)
            if refused:
                raise ServiceError(f"a batch answered {status}: {json.dumps(refused)[:300]}")

    def fill(self) -> None:
        """Give every SKU of the measurements its stock. Raises ServiceError."""
        self.do([{"command": "put", "sku": sku, "amount_in_stock": STOCK} for sku in (HOT, *SPREAD)])

    def hold(self, count: int) -> None:
        """Make `count` reservations of the hot SKU that outlast the run. Raises ServiceError."""
        self.do([{"command": "reserve", "sku": HOT, "quantity": 1, "ttl_seconds": HOLD_SECONDS}] * count)


def environ(settings: dict[str, Any], url: str) -> dict[str, str]:
    """The environment for a `stockledger` command.

    No setting of the caller's environment counts: least of all DATABASE_URL, which may name someone's real ledger.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STOCKLEDGER_", "DATABASE_"))}
    return kept | {f"STOCKLEDGER_{name}": str(value) for name, value in settings.items()} | {"DATABASE_URL": url}


def program() -> Path:
    """The installed `stockledger` that belongs to this Python."""
    return Path(sys.executable).parent / "stockledger"


@contextmanager
def running_service(
    folder: Path, url: str, schema: str, workers: int, threads: int, more: Mapping[str, Any] | None = None
) -> Iterator[Started]:
    """Run `stockledger serve` on the ledger `schema` of the database `url`, with its log in `folder`.

    It asks for no keys unless `more` settings say so.
    Raises ServiceError, with the end of the log, when the service does not become ready.
    """
    address = (HOST, free_port())
    settings = {"HOST": HOST, "PORT": address[1], "SCHEMA": schema, "WORKERS": workers, "THREADS": threads}
    settings |= {"AUTH": "off", **(more or {})}
    log = folder / f"{schema}.log"
    began = time.monotonic()
    with (
        log.open("wb") as out,
        subprocess.Popen([program(), "serve"], env=environ(settings, url), stdout=out, stderr=out) as process,
    ):
        try:
            wait_until_ready(process, address, log)
            yield Started(address, process.pid, time.monotonic() - began)
        finally:
            stop(process)


def free_port() -> int:
    """A TCP port of the loopback that nothing listens on just now."""
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_until_ready(process: subprocess.Popen[bytes], address: tuple[str, int], log: Path) -> None:
    """Return once /health/ready answers 200. Raises ServiceError when the process ends, or when it takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if is_ready(address):
            return
        time.sleep(POLL_SECONDS)
    ended = f"ended with {process.returncode}" if process.poll() is not None else f"not ready in {READY_SECONDS:.0f} s"
    raise ServiceError(f"stockledger serve: {ended}: {log.read_text(errors='replace')[-1000:].strip()}")


def is_ready(address: tuple[str, int]) -> bool:
    with closing(http.client.HTTPConnection(*address, timeout=5)) as connection:
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the service to end as an operator would, and make it end if it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
