"""The service under test: started on a free port with data of its own, filled with stock, stopped at the end."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

READY_SECONDS = 120.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.1
HOST = "127.0.0.1"
HOT = "bench-hot"
SPREAD = tuple(f"bench-{number:04}" for number in range(1000))
STOCK = 1_000_000_000  # of each SKU, so that no reservation of a run is refused


class ServiceError(Exception):
    """The service did not start, or did not take the stock it was given."""


@dataclass(frozen=True)
class Started:
    """A service that is ready."""

    address: tuple[str, int]

    def fill(self) -> None:
        """Give every SKU of the measurements its stock. Raises ServiceError."""
        body = json.dumps({"amount_in_stock": STOCK})
        with closing(http.client.HTTPConnection(*self.address, timeout=30)) as connection:
            for sku in (HOT, *SPREAD):
                connection.request("PUT", f"/api/fungible/{quote(sku)}", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                answer = response.read()
                if response.status != 200:
                    raise ServiceError(f"PUT of {sku} answered {response.status}: {answer[:200]!r}")


@contextmanager
def running_service(folder: Path, workers: int, threads: int) -> Iterator[Started]:
    """Run `stockledger serve` with its data in `folder`/data and its log in `folder`/service.log.

    No setting of the caller's environment counts: least of all DATABASE_URL, which may name someone's real ledger.
    Raises ServiceError, with the end of the log, when the service does not become ready.
    """
    address = (HOST, free_port())
    settings = {"HOST": HOST, "PORT": address[1], "DATA_DIR": folder / "data", "WORKERS": workers, "THREADS": threads}
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("STOCKLEDGER_", "DATABASE_"))}
    environ |= {f"STOCKLEDGER_{name}": str(value) for name, value in settings.items()}
    program = Path(sys.executable).parent / "stockledger"
    log = folder / "service.log"
    with log.open("wb") as out, subprocess.Popen([program, "serve"], env=environ, stdout=out, stderr=out) as process:
        try:
            wait_until_ready(process, address, log)
            yield Started(address)
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
