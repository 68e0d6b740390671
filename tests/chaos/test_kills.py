"""Processes die or stop in the middle of their work: what was acknowledged is there once, and the others go on."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from ledger.store.connection import Connection
from ledger.store.embedded.server import EmbeddedPostgres
from tests.chaos.audit import audit
from tests.chaos.callers import Load, stock_the_shop
from tests.chaos.service import Service, wait_until

RECOVERY_SECONDS = 15.0  # PostgreSQL's own recovery among them, on a busy machine
# The limit on an idle transaction, and the time that the others' next attempt takes.
STUCK_SECONDS = 6.0

PIDS = "SELECT pid FROM pg_stat_activity WHERE application_name IN ('stockledger committer', 'stockledger reader')"
HOLDER = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"


@pytest.fixture
def service(folder: Path, postgres_url: str, schema: str) -> Iterator[Service]:
    with Service(folder, DATABASE_URL=postgres_url, STOCKLEDGER_SCHEMA=schema) as started:
        yield started


def terminate(conn: Connection, _service: Service) -> None:
    conn.execute(f"SELECT pg_terminate_backend(pid) FROM ({PIDS}) AS sessions")


def kill_a_backend(conn: Connection, _service: Service) -> None:
    """PostgreSQL then ends all others, and recovers as after a crash."""
    (pid,) = conn.execute(f"{PIDS} LIMIT 1").fetchone()
    os.kill(pid, signal.SIGKILL)


def kill_a_worker(_conn: Connection, service: Service) -> None:
    service.signal(signal.SIGKILL, service.workers()[:1])


def kill_the_expiry_process(_conn: Connection, service: Service) -> None:
    service.signal(signal.SIGKILL, service.expiry())


@pytest.mark.parametrize("strike", [terminate, kill_a_backend, kill_a_worker, kill_the_expiry_process])
def test_under_load_nothing_is_lost_or_repeated_when(
    postgres_url: str, schema: str, service: Service, strike: Callable[[Connection, Service], None]
):
    notes = stock_the_shop(service.wire())
    with psycopg.connect(postgres_url, autocommit=True) as conn, Load(service.wire, callers=8, seed=1) as load:
        time.sleep(0.5)
        strike(conn, service)
        struck = time.monotonic()
        wait_until(lambda: load.has_worked_since(struck), RECOVERY_SECONDS, "a request is carried out")
        time.sleep(1.0)

    load.settle()
    assert audit(postgres_url, schema, notes + load.notes, load.seen).broken == []


def test_what_was_acknowledged_is_there_after_the_whole_service_was_killed_and_started_again(folder: Path):
    data = folder / "killed"
    service = Service(folder, STOCKLEDGER_DATA_DIR=str(data))
    with service:
        notes = stock_the_shop(service.wire())
        with Load(service.wire, callers=8, seed=1) as load:
            time.sleep(1.0)
            service.kill()
            service.start()
            restarted = time.monotonic()
            wait_until(lambda: load.has_worked_since(restarted), RECOVERY_SECONDS, "a request is carried out")
        load.settle()
        url = EmbeddedPostgres(data, {}).url

        assert audit(url, "stockledger", notes + load.notes, load.seen).broken == []


def test_a_worker_that_is_stopped_while_it_holds_the_lock_loses_it_and_works_again_later(
    folder: Path, postgres_url: str, schema: str, conn: Connection, service: Service
):
    settings = {"DATABASE_URL": postgres_url, "STOCKLEDGER_SCHEMA": schema}
    notes = stock_the_shop(service.wire())
    with Service(folder, workers=1, **settings) as other:
        with Load(other.wire, callers=8, seed=1) as load:
            stop_in_transaction(conn, other)
            stopped = time.monotonic()
            with Load(service.wire, callers=2, seed=2) as others:
                wait_until(lambda: others.has_worked_since(stopped), STUCK_SECONDS, "the others go on")
            other.signal(signal.SIGCONT, other.workers())
            continued = time.monotonic()
            wait_until(lambda: load.has_worked_since(continued), RECOVERY_SECONDS, "it works again")
        load.settle()
        others.settle()

    notes += [*load.notes, *others.notes]
    assert audit(postgres_url, schema, notes, [*load.seen, *others.seen]).broken == []


def stop_in_transaction(conn: Connection, service: Service) -> None:
    """Stop the service's worker so that a session of it holds the log's lock; the others must not be at work."""
    workers = service.workers()

    def is_caught() -> bool:
        service.signal(signal.SIGSTOP, workers)
        time.sleep(0.05)  # what it has sent is carried out
        if conn.execute(HOLDER).fetchone() is not None:
            return True
        service.signal(signal.SIGCONT, workers)
        return False

    wait_until(is_caught, 10, "it is stopped while it holds the lock", 0.013)
