"""The event-sourcing library's own pattern on the same PostgreSQL: an aggregate per SKU, got and saved per command.

No HTTP and no snapshots; a save that another was faster than is tried again from a fresh aggregate. Each measurement
has SKUs of its own, so that no aggregate carries the events of an earlier round.
"""

import multiprocessing
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import IntegrityError, PersistenceError
from psycopg.conninfo import conninfo_to_dict

from bench.load import SPREAD_STEP, Tally, total
from bench.measured import Measured

SCHEMA = "bench_library"
START_SECONDS = 2.5  # after which the processes, imported and connected by then, begin together
SEED_BATCH = 250


class Stock(Aggregate):
    """One SKU's level, as the library's tutorial would write it."""

    @event("Registered")
    def __init__(self, sku: str) -> None:
        self.sku = sku
        self.on_hand = 0

    @staticmethod
    def create_id(sku: str) -> uuid.UUID:
        return uuid.uuid5(uuid.NAMESPACE_URL, f"/stock/{sku}")

    @event("Added")
    def add(self, quantity: int) -> None:
        self.on_hand += quantity


class Warehouse(Application[uuid.UUID]):
    """The application over those aggregates."""

    def register(self, skus: list[str]) -> None:
        for start in range(0, len(skus), SEED_BATCH):
            stocks = [Stock(sku) for sku in skus[start : start + SEED_BATCH]]
            for stock in stocks:
                stock.add(1)
            self.save(*stocks)

    def add(self, sku: str, quantity: int) -> None:
        """Raises IntegrityError when another command on this SKU was faster."""
        stock: Stock = self.repository.get(Stock.create_id(sku))
        stock.add(quantity)
        self.save(stock)


@dataclass(frozen=True)
class Library:
    """The library against one database."""

    url: str
    processes: int

    def prepare(self) -> None:
        """Make room for the library's tables, which it then creates itself."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA}")

    def drop(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")

    def measure(self, skus: int, threads: int, seconds: float) -> Measured:
        """Add over `skus` new SKUs for `seconds`, from `threads` threads altogether."""
        run = uuid.uuid4().hex[:8]
        names = [f"{run}-{number}" for number in range(skus)]
        self.register(names)
        return self.measure_on(names, threads, seconds)

    def register(self, names: list[str]) -> list[uuid.UUID]:
        """Make an aggregate for each SKU, with one add; returns their ids."""
        with warehouse(self.url, 1) as application:
            application.register(names)
        return [Stock.create_id(name) for name in names]

    def measure_on(self, names: list[str], threads: int, seconds: float) -> Measured:
        """Add over these SKUs, which are registered, for `seconds`, from `threads` threads altogether."""
        start_at = time.monotonic() + START_SECONDS
        processes = min(self.processes, threads)
        shares = [range(threads)[number::processes] for number in range(processes)]
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            waiting = [pool.submit(work, self.url, names, share, seconds, start_at) for share in shares]
            return total([each.result() for each in waiting])


@contextmanager
def warehouse(url: str, connections: int, *, create: bool = True) -> Iterator[Warehouse]:
    """The application on a pool of as many connections as threads will use it.

    `create` its tables: only one process may, for two that do so at once can meet "tuple concurrently updated".
    """
    application = Warehouse(environment(url, connections) | {"CREATE_TABLE": "y" if create else "n"})
    try:
        yield application
    finally:
        application.close()


def environment(url: str, connections: int) -> dict[str, str]:
    """The library's settings for the database of `url`."""
    given = conninfo_to_dict(url)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(given.get("dbname") or given.get("user")),
        "POSTGRES_HOST": str(given.get("host") or "127.0.0.1"),
        "POSTGRES_PORT": str(given.get("port") or 5432),
        "POSTGRES_USER": str(given.get("user") or "postgres"),
        "POSTGRES_PASSWORD": str(given.get("password") or ""),
        "POSTGRES_SCHEMA": SCHEMA,
        "POSTGRES_POOL_SIZE": str(connections),
        "POSTGRES_MAX_OVERFLOW": "0",
    }


def work(url: str, names: list[str], share: range, seconds: float, start_at: float) -> Tally:
    """One process with a thread for each number of `share`, begun at `start_at` of the monotonic clock."""
    whole = Tally()
    with warehouse(url, len(share), create=False) as application, ThreadPoolExecutor(len(share)) as pool:
        time.sleep(max(0.0, start_at - time.monotonic()))
        start = time.monotonic()
        waiting = [pool.submit(add_until, application, names, number, start + seconds) for number in share]
        for each in waiting:
            one = each.result()
            whole.succeeded += one.succeeded
            whole.errors += one.errors
            whole.latencies.add(one.latencies)
        whole.seconds = time.monotonic() - start
    return whole


def add_until(application: Warehouse, names: list[str], number: int, deadline: float) -> Tally:
    """One thread: a command after another; the latency of a command includes all its attempts."""
    tally = Tally()
    at = number * SPREAD_STEP
    while time.monotonic() < deadline:
        start = time.monotonic()
        try:
            done = added(application, names[at % len(names)], deadline)
        except PersistenceError:
            tally.errors += 1
        else:
            if done:
                tally.succeeded += 1
                tally.latencies.record(time.monotonic() - start)
        at += 1
    return tally


def added(application: Warehouse, sku: str, deadline: float) -> bool:
    """Whether the command got through by the deadline, in as many attempts as it takes."""
    while time.monotonic() < deadline:
        try:
            application.add(sku, 1)
        except IntegrityError:
            continue
        return True
    return False
