"""A real `stockledger serve` in processes of its own, for tests that need the whole thing."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

STARTED = re.compile(r"listening on\s+(http://\S+)")
START_SECONDS = 60.0
STOP_SECONDS = 30.0


class RunningService:
    """`url` is where it listens; `process` its parent process."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def children(self) -> dict[int, str]:
        """Processes of the service by id, with their command lines (PostgreSQL among them)."""
        found = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        pairs = (line.strip().split(maxsplit=1) for line in found.stdout.splitlines())
        return {int(pid): args for pid, args in pairs}

    def wait_ready(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            with suppress(OSError, urllib.error.HTTPError):
                if urllib.request.urlopen(self.url + "/health/ready", timeout=5).status == 200:
                    return
            time.sleep(0.05)
        raise AssertionError("the service did not get ready")

    def stop(self) -> int:
        """Stop it as an operator does; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)


@contextmanager
def running_service(settings: Mapping[str, str], log: IO[str] | None = None) -> Iterator[RunningService]:
    """Start the service on a free port with these settings (environment variables), and stop it at the end."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("STOCKLEDGER_", "DATABASE_URL"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "api", "serve"],
        env=environment | {"STOCKLEDGER_PORT": "0", "STOCKLEDGER_WORKERS": "2", "STOCKLEDGER_AUTH": "off"} | settings,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        started = STARTED.match(first)
        assert started, f"it did not start: {first!r}"
        service = RunningService(process, started[1])
        service.wait_ready()
        yield service
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


def data_folder() -> Path:
    """A new folder that PostgreSQL can use even when the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="stockledger-tests-"))
    folder.chmod(0o755)
    return folder
