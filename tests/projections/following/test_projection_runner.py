"""The read models that follow: their rows, their positions, and what becomes of them when something goes wrong."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from falcon import testing

from ledger.catalogue.events import ProductRegistered, ProductRevised
from ledger.engine.ledger import Ledger
from ledger.items.events import (
    ItemAdded,
    ItemPurchased,
    ItemReleased,
    ItemReservationExtended,
    ItemReserved,
    ItemReturned,
    ItemRevised,
)
from ledger.stock.events import (
    StockAdded,
    StockPurchased,
    StockReleased,
    StockRemoved,
    StockReservationExtended,
    StockReserved,
    StockReturned,
)
from ledger.store.connection import BoundedConnection, Connection
from projections.following import movements_daily, projection_runner, valuations_daily
from projections.following.projection_runner import MODELS, Follower, Model, lags
from tests.ledger.given import BY, ID, PURCHASE_ID
from tests.projections.history import record, record_nonsense

DAY_1 = datetime(2026, 11, 20, 9, 0, 0, tzinfo=UTC)
NEARLY_DAY_2 = datetime(2026, 11, 20, 23, 59, 59, 999999, tzinfo=UTC)
DAY_2 = datetime(2026, 11, 21, 0, 0, 0, tzinfo=UTC)
DAY_4 = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
UNTIL = DAY_1 + timedelta(days=30)
HELD: dict[str, Any] = {"reservation_id": ID, **BY}
BOUGHT: dict[str, Any] = {"reservation_id": ID, "purchase_id": PURCHASE_ID, **BY}
PENCIL, PRODUCT, BIKE, VIN = "stock/main/PENCIL", "product/PENCIL", "product/BIKE", "item/BIKE/VIN"

STOCK_OF_PENCILS = [
    (DAY_1, PRODUCT, ProductRegistered(kind="fungible", unit_price_cents=300, **BY)),
    (DAY_1, PENCIL, StockAdded(quantity=10, on_hand=10, reserved=0, **BY)),
    (NEARLY_DAY_2, PENCIL, StockReserved(quantity=4, on_hand=10, reserved=4, expires_at=UNTIL, **HELD)),
    (DAY_2, PENCIL, StockReleased(quantity=1, on_hand=10, reserved=3, cause="cancelled", **HELD)),
    (DAY_2, PENCIL, StockReleased(quantity=1, on_hand=10, reserved=2, cause="expired", **HELD)),
    (DAY_2, PENCIL, StockPurchased(quantity=2, on_hand=8, reserved=0, **BOUGHT)),
    (DAY_2, PENCIL, StockReturned(quantity=1, on_hand=9, reserved=0, **HELD)),
    (DAY_2, PENCIL, StockRemoved(quantity=5, on_hand=4, reserved=0, **BY)),
    (DAY_4, PRODUCT, ProductRevised(unit_price_cents=100, **BY)),
]
A_BIKE = [
    (DAY_1, BIKE, ProductRegistered(kind="non-fungible", unit_price_cents=7, **BY)),
    (DAY_1, VIN, ItemAdded(price_cents=500, **BY)),
    (DAY_1, "item/BIKE/OTHER", ItemAdded(price_cents=70, **BY)),
    (DAY_2, VIN, ItemReserved(expires_at=UNTIL, **HELD)),
    (DAY_2, VIN, ItemRevised(price_cents=600, **BY)),
    (DAY_4, VIN, ItemPurchased(**BOUGHT)),
]


@pytest.fixture
def follower(service_url: str, schema: str):
    opened = Follower(service_url, schema)
    yield opened
    opened.close()


def follow(follower: Follower) -> None:
    """Let it work until it has nothing to do at once."""
    while follower.step() == 0:
        pass


def moved(conn: Connection) -> dict[tuple[int, str], dict[str, int]]:
    """What is not zero in `movements_daily`, by day of the month and SKU."""
    columns = ", ".join(movements_daily.COUNTED)
    rows = conn.execute(f"SELECT extract(day FROM day)::int, sku, {columns} FROM movements_daily").fetchall()
    named = {(row[0], row[1]): dict(zip(movements_daily.COUNTED, row[2:], strict=True)) for row in rows}
    return {key: {name: count for name, count in row.items() if count} for key, row in named.items()}


def valued(conn: Connection, sku: str) -> list[tuple[int, int, int, Decimal, Decimal]]:
    """Day of the month, on hand, reserved, and what each is worth."""
    return conn.execute(
        "SELECT extract(day FROM day)::int, on_hand, reserved, on_hand_cents, reserved_cents"
        " FROM valuations_daily WHERE sku = %s ORDER BY day",
        [sku],
    ).fetchall()


def everything(conn: Connection) -> dict[str, list[tuple[Any, ...]]]:
    names = [table for model in MODELS for table in model.tables]
    return {name: conn.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in names}


def positions(conn: Connection) -> dict[str, tuple[int, int | None]]:
    rows = conn.execute("SELECT name, position, failed_position FROM following").fetchall()
    return {name: (position, failed) for name, position, failed in rows}


# The rows


def test_movements_are_summed_by_utc_day_and_cause(conn: Connection, follower: Follower):
    record(conn, STOCK_OF_PENCILS)

    follow(follower)

    assert moved(conn) == {
        (20, "PENCIL"): {"added": 10, "reserved": 4, "events": 3},
        (21, "PENCIL"): {"released": 1, "expired": 1, "purchased": 2, "returned": 1, "removed": 5, "events": 5},
        (23, "PENCIL"): {"events": 1},
    }


def test_an_item_moves_as_one_unit(conn: Connection, follower: Follower):
    more = [
        (DAY_4, VIN, ItemReturned(**HELD)),
        (DAY_4, VIN, ItemReserved(expires_at=UNTIL, **HELD)),
        (DAY_4, VIN, ItemReservationExtended(expires_at=UNTIL, **HELD)),
        (DAY_4, VIN, ItemReleased(cause="expired", **HELD)),
    ]
    record(conn, A_BIKE + more)

    follow(follower)

    assert moved(conn) == {
        (20, "BIKE"): {"added": 2, "events": 3},
        (21, "BIKE"): {"reserved": 1, "events": 2},
        (23, "BIKE"): {"purchased": 1, "returned": 1, "reserved": 1, "expired": 1, "events": 5},
    }


def test_a_sum_too_large_for_the_table_stops_at_the_largest_number(conn: Connection, follower: Follower):
    most = 2**53 - 1
    one = StockReserved(quantity=most, on_hand=most, reserved=most, expires_at=UNTIL, **HELD)
    record(conn, [(DAY_1, PENCIL, one)])
    follow(follower)
    conn.execute("UPDATE movements_daily SET reserved = 2^63::numeric - 2")

    record(conn, [(DAY_1, PENCIL, one)])
    follow(follower)

    assert moved(conn)[20, "PENCIL"]["reserved"] == movements_daily.MOST


def test_a_sku_is_valued_at_the_end_of_each_day_on_which_its_stock_or_price_changed(
    conn: Connection, follower: Follower
):
    extended = StockReservationExtended(quantity=1, on_hand=4, reserved=0, expires_at=UNTIL, **HELD)
    renamed = ProductRevised(name="Pencil", **BY)
    later = DAY_4 + timedelta(days=1)
    record(conn, [*STOCK_OF_PENCILS, (later, PENCIL, extended), (later, PRODUCT, renamed)])

    follow(follower)

    assert valued(conn, "PENCIL") == [(20, 10, 4, 3000, 1200), (21, 4, 0, 1200, 0), (23, 4, 0, 400, 0)]


def test_items_are_valued_at_their_own_prices_until_they_are_sold(conn: Connection, follower: Follower):
    later = DAY_4 + timedelta(days=1)
    record(conn, [*A_BIKE, (DAY_4, BIKE, ProductRevised(unit_price_cents=9, **BY)), (later, VIN, ItemReturned(**HELD))])

    follow(follower)

    assert valued(conn, "BIKE") == [(20, 2, 0, 570, 0), (21, 2, 1, 670, 600), (23, 1, 0, 70, 0), (24, 2, 0, 670, 0)]


def test_the_largest_stock_at_the_largest_price_has_a_value(conn: Connection, follower: Follower):
    most = 2**53 - 1
    registered = ProductRegistered(kind="fungible", unit_price_cents=most, **BY)
    added = StockAdded(quantity=most, on_hand=most, reserved=0, **BY)
    record(conn, [(DAY_1, PRODUCT, registered), (DAY_1, PENCIL, added)])

    follow(follower)

    assert valued(conn, "PENCIL") == [(20, most, 0, Decimal(most * most), 0)]


@pytest.mark.parametrize("entries", [1, 2, 7])
def test_batches_of_any_size_make_the_same_rows(
    conn: Connection, postgres_url: str, schema: str, monkeypatch: pytest.MonkeyPatch, entries: int
):
    record(conn, sorted(STOCK_OF_PENCILS + A_BIKE, key=lambda fact: fact[0]))
    whole = Follower(postgres_url, schema)
    follow(whole)
    whole.close()
    expected = everything(conn)
    conn.execute("TRUNCATE following, movements_daily, valuations_daily, valued_products, valued_items")

    monkeypatch.setattr(projection_runner, "BATCH_ENTRIES", entries)
    pieces = Follower(postgres_url, schema)
    follow(pieces)
    pieces.close()

    assert all(expected.values())
    assert everything(conn) == expected


# Failures


def test_an_event_that_cannot_be_read_stops_before_it_and_says_where(conn: Connection, follower: Follower):
    record(conn, STOCK_OF_PENCILS)
    record_nonsense(conn, DAY_4)
    record(conn, A_BIKE)

    follow(follower)

    assert positions(conn) == dict.fromkeys(("movements_daily", "valuations_daily"), (9, 10))
    ((error,),) = conn.execute("SELECT DISTINCT error FROM following").fetchall()
    assert "Nonsense.v1" in error
    assert moved(conn)[23, "PENCIL"] == {"events": 1}


def test_an_event_that_stops_one_model_leaves_the_others_going(
    conn: Connection, follower: Follower, monkeypatch: pytest.MonkeyPatch
):
    record(conn, STOCK_OF_PENCILS)
    record(conn, [(DAY_4, "item/BIKE/GHOST", ItemReleased(cause="expired", **HELD))])  # was never added
    record(conn, STOCK_OF_PENCILS[1:2])

    follow(follower)
    follow(follower)

    assert positions(conn) == {"movements_daily": (11, None), "valuations_daily": (9, 10)}
    assert valued(conn, "PENCIL")[-1] == (23, 4, 0, 400, 0)

    # A version of the service that can take it goes on from there, and the failure is forgotten.
    monkeypatch.setattr(valuations_daily, "_apply", lambda *_: None)
    follower.close()
    monkeypatch.setattr(projection_runner, "RETRY_FAILED_SECONDS", 0.0)
    follower._retry_at = dict.fromkeys(follower._retry_at, 0.0)
    follow(follower)

    assert positions(conn) == {"movements_daily": (11, None), "valuations_daily": (11, None)}


def test_rows_and_position_are_written_together_or_not_at_all(conn: Connection, postgres_url: str, schema: str):
    record(conn, STOCK_OF_PENCILS)
    lost = [True]

    def apply(connection: BoundedConnection, entries: Any) -> None:
        movements_daily.apply(connection, entries)
        if lost.pop() if lost else False:
            connection.close()  # as when the process dies now

    follower = Follower(postgres_url, schema, [Model("movements_daily", movements_daily.TABLES, apply)])
    with pytest.raises((psycopg.OperationalError, psycopg.InterfaceError)):
        follow(follower)
    assert (moved(conn), positions(conn)) == ({}, {"movements_daily": (0, None)})

    follower.close()
    follow(follower)
    follower.close()

    assert sum(row["events"] for row in moved(conn).values()) == 9
    assert positions(conn) == {"movements_daily": (9, None)}


def test_one_follower_leads_and_another_takes_over_when_it_is_gone(conn: Connection, postgres_url: str, schema: str):
    first, second = Follower(postgres_url, schema), Follower(postgres_url, schema)
    record(conn, STOCK_OF_PENCILS)
    assert first.step() == projection_runner.IDLE_SECONDS
    assert second.step() == projection_runner.STAND_BY_SECONDS

    first.close()
    record(conn, A_BIKE)
    follow(second)
    assert first.step() == projection_runner.STAND_BY_SECONDS
    second.close()

    assert positions(conn) == dict.fromkeys(("movements_daily", "valuations_daily"), (15, None))
    assert sum(row["events"] for row in moved(conn).values()) == 15


def test_a_lost_connection_is_made_again(conn: Connection, follower: Follower, monkeypatch: pytest.MonkeyPatch):
    """`run` is stopped by the model itself, once it is asked for an entry that came after the loss."""
    monkeypatch.setattr(projection_runner, "STAND_BY_SECONDS", 0.01)
    seen: list[int] = []

    def apply(connection: BoundedConnection, entries: Any) -> None:
        seen.extend(entry.position for entry in entries)
        if len(seen) == 1:
            conn.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
            record(conn, STOCK_OF_PENCILS[1:2])
        else:
            follower.stop()

    record(conn, STOCK_OF_PENCILS[:1])
    follower._models = [Model("movements_daily", (), apply)]

    follower.run()

    assert seen == [1, 1, 2]
    assert positions(conn)["movements_daily"] == (2, None)


# How far behind


def test_health_tells_how_far_behind_each_model_is(
    client: testing.TestClient, conn: Connection, follower: Follower, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("api.telemetry.health_snapshot.KEPT_SECONDS", 0)
    record(conn, STOCK_OF_PENCILS)

    behind = client.simulate_get("/health/ready").json["details"]["following"]
    follow(follower)
    after = client.simulate_get("/health/ready").json["details"]["following"]

    assert list(behind) == ["movements_daily", "valuations_daily"]
    assert behind["movements_daily"].pop("lag_seconds") > 0
    assert behind["movements_daily"] == {"position": 0, "lag_events": 9, "failed_position": None}
    assert after["valuations_daily"] == {"position": 9, "lag_events": 0, "lag_seconds": 0, "failed_position": None}


@pytest.mark.parametrize(("ago_seconds", "status"), [(200, 200), (400, 503)])
def test_a_model_that_is_stopped_makes_the_service_unready_once_it_is_too_far_behind(
    client: testing.TestClient, conn: Connection, follower: Follower, ago_seconds: int, status: int
):
    record_nonsense(conn, datetime.now(UTC) - timedelta(seconds=ago_seconds))
    follow(follower)

    answer = client.simulate_get("/health/ready")

    assert (answer.status_code, answer.json["checks"]["following"]) == (status, status == 200)
    assert answer.json["details"]["following"]["movements_daily"]["failed_position"] == 1


def test_the_command_follows_until_it_is_asked_to_end(ledger: Ledger, conn: Connection, postgres_url: str, schema: str):
    record(conn, STOCK_OF_PENCILS)
    environment = os.environ | {"DATABASE_URL": postgres_url, "STOCKLEDGER_SCHEMA": schema}
    process = subprocess.Popen(
        [sys.executable, "-m", "api", "follow"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 30
        while [lag.events for lag in lags(conn)] != [0, 0] and time.monotonic() < until:
            time.sleep(0.02)
        assert [lag.position for lag in lags(conn)] == [9, 9]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
