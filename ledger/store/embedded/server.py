"""A private PostgreSQL for a trial, for tests and for a single host: its life from start to end.

One process owns the server: it holds the lock of the data folder, and its child `postgres` gets a fast shutdown from
the kernel when that process dies, however it dies. Other processes that name the same folder share the server.
The folder itself is in cluster.py, the programs in binaries.py, who runs them in os_user.py.
"""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg

from ledger.store.embedded import cluster
from ledger.store.embedded.binaries import Binaries, find_binaries, runnable_by
from ledger.store.embedded.os_user import EmbeddedPostgresError, account_for, spawn

__all__ = ["Binaries", "EmbeddedPostgres", "EmbeddedPostgresError", "find_binaries"]

START_LIMIT_SECONDS = 120.0
"""How long the owner waits for its server; replaying the log after a power cut takes most of it."""
SHARE_LIMIT_SECONDS = 15.0
"""How long others wait for the owner's server."""
LOG_LIMIT_BYTES = 10_000_000

_SHARE_POLL_SECONDS = 0.05

_DEFAULTS = {
    # What was acknowledged survives a power cut. Never the other way by default.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # A small host.
    "shared_buffers": "256MB",
    "max_connections": "200",
    "max_wal_size": "2GB",
    "jit": "off",
    # A client that was suspended or killed in the middle of a transaction must not block the others for long.
    "idle_in_transaction_session_timeout": "60s",
    "client_connection_check_interval": "5s",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "cluster_name": cluster.NAME,
}


class EmbeddedPostgres:
    """A running private server, made by `start`; also a context manager that stops it at the end.

    url: for libpq, through the socket. data_dir: the folder named by the caller, absolute.
    owner: True in the process that started the server, False in those that share it.
    """

    url: str
    data_dir: Path
    owner: bool

    def __init__(self, data_dir: Path, settings: Mapping[str, str]) -> None:
        self.data_dir = data_dir
        self.owner = False
        self._socket_folder = cluster.socket_folder(data_dir)
        host = quote(str(self._socket_folder), safe="")
        self.url = f"postgresql://{cluster.NAME}@/{cluster.NAME}?host={host}&port={cluster.PORT}"
        self._settings = dict(settings)
        self._log = data_dir / "postgres.log"
        self._pid = os.getpid()
        self._lock: int | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, data_dir: Path, *, settings: Mapping[str, str] | None = None) -> Self:
        """Return a server that takes connections: one started here, or the one that another process runs.

        `settings` are PostgreSQL's and override our defaults; a sharer's count for nothing. Only the main thread may
        call: the kernel ties the server's life to the thread that forked it. Raises EmbeddedPostgresError.
        """
        _refuse_other_threads()
        _forget_libpqs_environment()
        with _advice(data_dir):
            postgres = cls(cluster.claim_folder(data_dir), settings or {})
            postgres._own_or_share()
        return postgres

    def _own_or_share(self) -> None:
        lock = cluster.open_lock(self.data_dir)
        try:
            if not self._wait_for_lock_or_server(lock):
                os.close(lock)
                return
            self._launch()
        except BaseException:  # also Ctrl-C while we wait
            os.close(lock)
            raise
        self._lock, self.owner = lock, True

    def _wait_for_lock_or_server(self, lock: int) -> bool:
        """Return True with the lock taken, False when its owner's server answers; the owner may vanish meanwhile."""
        deadline = time.monotonic() + SHARE_LIMIT_SECONDS
        while True:
            if cluster.take_lock(lock):
                return True
            if self._answers():
                return False
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"another process owns {self.data_dir} but its server did not answer for {SHARE_LIMIT_SECONDS:.0f} "
                    f"seconds: see {self._log}, or stop that process"
                )
            time.sleep(_SHARE_POLL_SECONDS)

    def _launch(self) -> None:
        """Start the server on data that nobody else uses; we hold the lock."""
        account = account_for(self.data_dir / "pg")
        cluster.refuse_unreachable(self.data_dir, account)
        server_lock = cluster.end_previous_server(self.data_dir)
        try:
            binaries = runnable_by(account, find_binaries(), self.data_dir)
            durable = self._settings.get("fsync") != "off"
            data = cluster.prepare_cluster(self.data_dir, binaries, account, durable=durable)
            cluster.prepare_socket_folder(self._socket_folder, account)
            self._bound_log()
            with open(self._log, "ab", opener=_open_private) as log:
                # Fast shutdown, not immediate: both drop every client at once, but this one's checkpoint, at most
                # shared_buffers of writing, spares the next start from replaying the log.
                arguments: list[str | Path] = [binaries.bin_dir / "postgres", "-D", data, *self._options()]
                log_start = log.tell()  # now, because the server moves the position, which it inherits
                self._server = spawn(arguments, account, data, signal.SIGINT, log, inherited=[server_lock])
                self._wait_until_ready(self._server, data, log_start)
        finally:
            os.close(server_lock)  # The server's processes keep theirs.

    def _options(self) -> Iterator[str]:
        folder = str(self._socket_folder).replace('"', '""')
        fixed = {
            "listen_addresses": "",
            "port": str(cluster.PORT),
            "unix_socket_directories": f'"{folder}"',
            "unix_socket_permissions": "0700",
        }
        for name, value in (_DEFAULTS | self._settings | fixed).items():
            yield from ("-c", f"{name}={value}")

    def _wait_until_ready(self, server: subprocess.Popen[bytes], data: Path, log_start: int) -> None:
        try:
            if not cluster.wait_until(
                lambda: server.poll() is not None or _is_ready(data, server.pid), START_LIMIT_SECONDS
            ):
                raise EmbeddedPostgresError(
                    f"PostgreSQL did not start in {START_LIMIT_SECONDS:.0f} seconds: see {self._log}"
                )
            if server.poll() is not None:
                raise EmbeddedPostgresError(
                    f"PostgreSQL ended while starting ({self._last_words(log_start)}): see {self._log}"
                )
        except BaseException:  # also Ctrl-C while we wait
            self._end_server()
            raise

    def _last_words(self, log_start: int) -> str:
        with self._log.open("rb") as log:
            log.seek(log_start)
            return cluster.telling_line(log.read(LOG_LIMIT_BYTES).decode(errors="replace"))

    def _bound_log(self) -> None:
        """Keep the log and one part before it; the server appends, so that it can be emptied under its hands."""
        if self._log.exists() and self._log.stat().st_size > LOG_LIMIT_BYTES:
            shutil.copy(self._log, self._log.with_suffix(".log.1"))
            os.truncate(self._log, 0)

    def _answers(self) -> bool:
        return psycopg.pq.PGconn.ping(f"{self.url}&connect_timeout=2".encode()) == psycopg.pq.Ping.OK

    def is_running(self) -> bool:
        """Tell whether the server lives (in its owner) or answers (in those that share it)."""
        if self._server is not None and os.getpid() == self._pid:
            return self._server.poll() is None
        return self._answers()

    def restart_if_dead(self) -> bool:
        """Start the server again when it died under its owner, and say whether that was so; bound its log too.

        For the owner's supervisor to call now and then, from the main thread; elsewhere and after `stop` it does
        nothing. Raises EmbeddedPostgresError when the server does not start; calling again tries again.
        """
        if self._lock is None or os.getpid() != self._pid:
            return False
        _refuse_other_threads()
        with _advice(self.data_dir):
            if self.is_running():
                self._bound_log()
                return False
            self._launch()
        return True

    def stop(self) -> None:
        """End the server when it is ours, gently and then by force, and give up the lock; else do nothing."""
        if os.getpid() != self._pid:
            self.after_fork_in_child()
        self._end_server()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _end_server(self) -> None:
        for number, limit_seconds in cluster.SHUTDOWN_STEPS:
            if self._server is None or self._server.poll() is not None:
                break
            self._server.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(limit_seconds)
        self._server = None

    def after_fork_in_child(self) -> None:
        """Become a sharer in a forked worker: it neither keeps the lock alive nor ever stops the server."""
        if os.getpid() == self._pid:
            return
        self.owner = False
        if self._server is not None:
            self._server.returncode = 0  # It is not our child, and Popen would warn that it still runs.
            self._server = None
        if self._lock is not None:
            os.close(self._lock)  # Closing leaves the parent's lock alone; unlocking would not.
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _forget_libpqs_environment() -> None:
    """Of what PGHOSTADDR, PGSERVICE, PGSSLMODE and their like say of other servers, nothing is meant for this one.

    libpq reads them whenever it connects, so they leave this process and all that it starts.
    """
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _refuse_other_threads() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise EmbeddedPostgresError("start the embedded PostgreSQL in the main thread: the server ends with its thread")


def _is_ready(data: Path, pid: int) -> bool:
    """Read from the pid file, which the server writes itself, that the server `pid` takes connections (its line 8)."""
    try:
        lines = (data / "postmaster.pid").read_bytes().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0] == b"%d" % pid and lines[7].strip() == b"ready"


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def _advice(data_dir: Path) -> Iterator[None]:
    """Turn what the operating system refuses into one sentence for the operator."""
    try:
        yield
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedPostgresError(
            f"the embedded PostgreSQL cannot use {data_dir} ({error}): name a folder of your own with "
            "STOCKLEDGER_DATA_DIR, or set DATABASE_URL"
        ) from error
