"""The place where everything is measured: one PostgreSQL, made for it and thrown away, and services started on it."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from bench import load, wrk
from bench.measured import Measured
from bench.service import Started, running_service
from ledger.store.embedded.server import EmbeddedPostgres, find_binaries

PROCESSES = min(2, os.cpu_count() or 1)  # of a load; more would only take the processor away from the service
GENERATORS = {"wrk": wrk.measure, "own": load.measure}
SETTLE_SECONDS = 30.0
POLL_SECONDS = 0.05
POSTGRES = {"max_connections": "400"}  # two services, and 256 clients of pgbench


@dataclass(frozen=True)
class Site:
    """`folder` holds PostgreSQL's data, logs of services and files to import, for as long as the site stands."""

    url: str
    folder: Path
    bin_dir: Path
    workers: int
    threads: int
    generator: str

    def service(self, schema: str) -> AbstractContextManager[Started]:
        """A running service on the ledger `schema`. Raises ServiceError."""
        return running_service(self.folder, self.url, schema, self.workers, self.threads)

    def load(self, service: Started, requests: list[bytes], connections: int, seconds: float) -> Measured:
        """Keep `connections` asking these requests in turn. Raises LoadError."""
        measure = GENERATORS[self.generator]
        return measure(service.address, requests, connections, seconds, min(connections, PROCESSES))

    def connect(self, schema: str) -> psycopg.Connection[Any]:
        """A connection in autocommit mode that finds the ledger's tables."""
        return psycopg.connect(self.url, autocommit=True, options=f"-c search_path={schema}")

    def settle(self, *schemas: str, limit_seconds: float = SETTLE_SECONDS) -> bool:
        """Wait until the read models that follow these ledgers' logs have caught up, so that their work disturbs no
        other measurement; whether they did. Their services must be running.
        """
        deadline = time.monotonic() + limit_seconds
        for schema in schemas:
            with self.connect(schema) as conn:
                while behind(conn):
                    if time.monotonic() > deadline:
                        return False
                    time.sleep(POLL_SECONDS)
        return True

    def drop(self, schema: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


def behind(conn: psycopg.Connection[Any]) -> bool:
    """Whether a following read model has not yet seen the end of the log."""
    row = conn.execute(
        "SELECT count(*) = 0 OR min(position) < (SELECT coalesce(max(notification_id), 0) FROM stored_events)"
        " FROM following"
    ).fetchone()
    return row is None or bool(row[0])


@contextmanager
def standing(workers: int, threads: int, generator: str, settings: Mapping[str, str] | None = None) -> Iterator[Site]:
    """A site under /tmp, with PostgreSQL's `settings` beside ours. Raises EmbeddedPostgresError."""
    folder = Path(tempfile.mkdtemp(prefix="stockledger-bench-", dir="/tmp"))
    folder.chmod(0o755)  # PostgreSQL runs as another user when we are root
    try:
        with EmbeddedPostgres.start(folder / "data", settings=POSTGRES | dict(settings or {})) as postgres:
            yield Site(postgres.url, folder, find_binaries().bin_dir, workers, threads, generator)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)
