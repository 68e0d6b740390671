"""The real service in processes of its own: started, looked into, killed, started again."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.chaos.wire import Address, Http

START_SECONDS = 60.0
STOP_SECONDS = 30.0
THREADS = 32

_ROOT = Path(__file__).parents[2]


class Service:
    """`python -m api serve` with the settings given; a context manager that ends it.

    `workers` are those of one service; what it prints goes to `folder`/service.log.
    """

    def __init__(self, folder: Path, *, workers: int = 2, verb: str = "serve", **settings: str) -> None:
        self._log = folder / "service.log"
        self._verb = verb
        given = {
            "STOCKLEDGER_PORT": "0",
            "STOCKLEDGER_AUTH": "off",
            "STOCKLEDGER_WORKERS": str(workers),
            "STOCKLEDGER_THREADS": str(THREADS),
        } | settings
        ours = ("STOCKLEDGER_", "DATABASE_URL")
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)} | given
        self._workers = workers
        self._process: subprocess.Popen[str] | None = None
        self._orphans: list[int] = []
        self.address: Address = ("127.0.0.1", 0)

    def start(self) -> "Service":
        """Return once it has said where it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "api", self._verb],
                cwd=_ROOT,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        if self._verb == "serve":
            found = re.fullmatch(r"listening on    http://127\.0\.0\.1:([0-9]+)\n", first)
            assert found, f"the service said {first!r} and {self._log.read_text()[-2000:]}"
            self.address = ("127.0.0.1", int(found[1]))
            wait_until(lambda: len(self.workers()) == self._workers, START_SECONDS, "every worker runs")
        return self

    def wire(self) -> Http:
        """A new caller's connection, to wherever it listens then."""
        return Http(lambda: self.address)

    @property
    def pid(self) -> int:
        assert self._process is not None, "it has been started"
        return self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def workers(self) -> list[int]:
        """The HTTP processes: those children that have a thread for each of many requests."""
        return [pid for pid in self.children() if _threads(pid) >= THREADS]

    def expiry(self) -> list[int]:
        """The expiry process and the follower, if they run."""
        return [pid for pid in self.children() if 0 < _threads(pid) < THREADS]

    def signal(self, number: signal.Signals, pids: Sequence[int] | None = None) -> None:
        """Send a signal to processes of this service, by default the parent; those that are gone are left alone."""
        for pid in [self.pid] if pids is None else pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """SIGKILL the parent; its children notice, and end when they have done what they are at."""
        self._orphans += self.children()
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        _close(self._process)

    def stop(self) -> int:
        """End it in an orderly way, by force if that takes too long; returns the exit status."""
        process = self._process
        if process is None:
            return 0
        self.signal(signal.SIGCONT, self.children())
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _close(process)
        self.signal(signal.SIGKILL, [pid for pid in self._orphans if _is_ours(pid)])
        return process.returncode

    def said(self) -> str:
        """What it has written to its log."""
        return self._log.read_text()

    def __enter__(self) -> "Service":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def children(self) -> list[int]:
        """Its workers and its expiry process."""
        with suppress(OSError):
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        return []


def wait_until(is_so: Callable[[], bool], seconds: float, what: str, pause_seconds: float = 0.02) -> float:
    """Look again and again until it is so; returns how long that took, fails when it takes too long."""
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < seconds, f"after {seconds} s it is not so that {what}"
        time.sleep(pause_seconds)
    return time.monotonic() - started


def _threads(pid: int) -> int:
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/task"))
    return 0


def _is_ours(pid: int) -> bool:
    """Whether the process of that number is still one of a service, not another that has got its number since."""
    with suppress(OSError):
        return b"\0-m\0api\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _close(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    process.stdout.close()
