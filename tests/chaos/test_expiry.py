"""Holds end at their time, whether or not the expiry process has been by; written down once, and soon."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import median
from uuid import uuid4

import pytest

from ledger.engine.ledger import Ledger
from ledger.reservations.commands import Line, MakeReservation
from ledger.stock.commands import PutFungible
from ledger.stock.errors import InsufficientStockError
from ledger.store.connection import Connection
from tests.chaos.audit import audit
from tests.chaos.service import Service, wait_until

LAG_SECONDS = 0.5
RESERVABLE_SECONDS = 1.2
OVERDUE = 2_000
RELEASED_PER_MINUTE = 10_000

RELEASES = """
SELECT s.recorded_at, r.expires_at, r.reservation_id::text
FROM stored_events AS s
JOIN reservations AS r ON r.reservation_id::text = convert_from(s.state, 'UTF8')::json ->> 'reservation_id'
WHERE s.topic = 'StockReleased.v1' ORDER BY s.notification_id
"""


def reserve(quantity: int = 1) -> MakeReservation:
    new = uuid4()
    return MakeReservation(reservation_id=new, lines=(Line("A", quantity),), ttl_seconds=1, request_id=f"reserve {new}")


@pytest.fixture
def stocked(ledger: Ledger) -> Ledger:
    ledger.handle(PutFungible(sku="A", amount_in_stock=OVERDUE, request_id="put"))
    return ledger


@pytest.fixture
def settings(postgres_url: str, schema: str) -> dict[str, str]:
    return {"DATABASE_URL": postgres_url, "STOCKLEDGER_SCHEMA": schema}


def releases(conn: Connection) -> list[tuple[datetime, datetime, str]]:
    """(recorded at, expired at, reservation) of each release."""
    return conn.execute(RELEASES).fetchall()


def open_holds(conn: Connection) -> int:
    ((count,),) = conn.execute("SELECT count(*) FROM reservations WHERE state = 'open'").fetchall()
    return count


def test_without_an_expiry_process_stock_is_free_again_the_moment_that_a_hold_is_over(
    postgres_url: str, schema: str, stocked: Ledger
):
    stocked.handle(reserve(OVERDUE))

    wait_until(lambda: _is_reserved(stocked), RESERVABLE_SECONDS, "another can reserve it")

    assert audit(postgres_url, schema).broken == []  # so it was not before its time either


def _is_reserved(ledger: Ledger) -> bool:
    try:
        ledger.handle(reserve(OVERDUE))
    except InsufficientStockError:
        return False
    return True


@pytest.fixture
def two_expiry_processes(folder: Path, settings: dict[str, str], stocked: Ledger) -> Iterator[None]:
    with Service(folder, verb="expire", **settings), Service(folder, verb="expire", **settings):
        yield


def test_two_expiry_processes_write_down_each_hold_once_and_soon(
    postgres_url: str, schema: str, stocked: Ledger, conn: Connection, two_expiry_processes: None
):
    for _ in range(3):  # each as soon as they have nothing left to do, and begin to sleep
        for _ in range(5):
            stocked.handle_many([reserve() for _ in range(10)])
        wait_until(lambda: not open_holds(conn), 10, "all holds are written down as over")

    written = releases(conn)
    assert Counter(reservation_id for _, _, reservation_id in written).most_common(1)[0][1] == 1
    assert len(written) == 150
    # The typical one: a single late one says more of what else this machine does.
    assert median((recorded - expired).total_seconds() for recorded, expired, _ in written) < LAG_SECONDS
    assert audit(postgres_url, schema).broken == []


def test_an_expiry_process_that_was_away_catches_up_fast(
    folder: Path, settings: dict[str, str], stocked: Ledger, conn: Connection
):
    for _ in range(OVERDUE // 1_000):
        stocked.handle_many([reserve() for _ in range(1_000)])
    time.sleep(1.1)

    with Service(folder, verb="expire", **settings):
        wait_until(lambda: not open_holds(conn), 30, "all holds are written down as over")

    times = [recorded for recorded, _, _ in releases(conn)]
    after_the_first = sum(time > times[0] for time in times)
    assert len(times) == OVERDUE
    assert after_the_first / (times[-1] - times[0]).total_seconds() * 60 > RELEASED_PER_MINUTE
