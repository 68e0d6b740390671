"""Health: ready is only who can read and write, and whose read models and expiry keep up; it says what is wrong."""

import threading

import pytest
from falcon import testing
from psycopg import sql

from api.app import create_app
from api.http.service import Service
from ledger.engine import committer_counters
from ledger.engine.committer_counters import DEFECTS_IN_A_ROW, CommitterCounters
from ledger.engine.ledger import Ledger
from ledger.errors import BusyError
from ledger.stock.commands import AddStock
from ledger.store.connection import Connection, connect, lock_key
from projections.reader import Reader
from projections.stock import stock_levels
from tests.chaos.proxy import Proxy
from tests.chaos.service import wait_until

SECONDS = 5.0


def failing(client: testing.TestClient) -> set[str]:
    """The names of what is not as it should be; nothing when ready."""
    answer = client.simulate_get("/health/ready")
    failed = {name for name, passed in answer.json["checks"].items() if not passed}
    if failed:
        assert (answer.status_code, answer.json["type"]) == (503, "/problems/not-ready")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["Retry-After"] == "1"
        assert all(name in answer.json["detail"] for name in failed)
    else:
        assert (answer.status_code, answer.json["status"]) == (200, "ready")
    return failed


@pytest.fixture(autouse=True)
def _looks_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.telemetry.health_snapshot.KEPT_SECONDS", 0)


def test_while_the_database_is_away_live_is_live_ready_is_not_and_metrics_are_answered(
    proxy: Proxy, schema: str, ledger_behind_proxy: Ledger
):
    reader = Reader(proxy.url, schema, max_connections=2)
    client = testing.TestClient(create_app(Service(ledger_behind_proxy, reader, 3600)))
    assert failing(client) == set()
    client.simulate_put("/api/fungible/A")

    proxy.go_away()
    assert failing(client) == {"database", "migrated", "expiry", "following"}
    metrics = client.simulate_get("/metrics")
    assert client.simulate_get("/health/live").status_code == 200
    proxy.come_back()

    assert metrics.status_code == 200
    assert "\nstockledger_database_up 0.0\n" in metrics.text
    assert 'stockledger_http_requests_total{method="PUT",route="/api/fungible/{sku}",status="200"} 1.0' in metrics.text
    assert "\nstockledger_log_position " not in metrics.text
    wait_until(lambda: failing(client) == set(), SECONDS, "it is ready again")
    reader.close()


def test_a_schema_that_is_not_migrated_is_not_ready(client: testing.TestClient, conn: Connection):
    conn.execute("DELETE FROM schema_migrations WHERE version = (SELECT max(version) FROM schema_migrations)")

    assert failing(client) == {"migrated", "expiry", "following"}


def test_a_committer_that_is_stuck_is_not_ready(
    client: testing.TestClient, ledger: Ledger, postgres_url: str, schema: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("api.resources.health.COMMITTER_STUCK_SECONDS", 0.1)
    assert failing(client) == set()

    def submit() -> None:
        with pytest.raises(BusyError):
            ledger.handle(AddStock(sku="A", quantity=1))

    caller = threading.Thread(target=submit)
    with connect(postgres_url, schema) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [lock_key(schema, "log")])
        caller.start()
        wait_until(lambda: failing(client) == {"committer"}, SECONDS, "the committer is stuck behind the lock")
        caller.join()

    wait_until(lambda: failing(client) == set(), SECONDS, "it goes on")


def test_a_committer_that_has_ended_is_not_ready(client: testing.TestClient, ledger: Ledger):
    ledger.close()

    assert failing(client) == {"committer"}


@pytest.mark.parametrize(("overdue_seconds", "failed"), [(50, set()), (70, {"expiry"})])
def test_expired_reservations_that_nobody_writes_down_make_it_unready(
    client: testing.TestClient, conn: Connection, overdue_seconds: int, failed: set[str]
):
    client.simulate_put("/api/fungible/A", json={"amount_in_stock": 5})
    client.simulate_post("/api/fungible/A/reserve/1")
    overdue = sql.SQL("UPDATE reservations SET expires_at = clock_timestamp() - make_interval(secs => {})")
    conn.execute(overdue.format(overdue_seconds))

    assert failing(client) == failed
    assert client.simulate_get("/health/ready").json["details"]["expiry"]["overdue"] == 1


def test_probes_that_come_often_ask_the_database_once(
    client: testing.TestClient, monkeypatch: pytest.MonkeyPatch, conn: Connection
):
    monkeypatch.setattr("api.telemetry.health_snapshot.KEPT_SECONDS", 1000)
    assert failing(client) == set()
    conn.execute("DELETE FROM schema_migrations")

    assert failing(client) == set()


def test_a_ledger_in_which_every_commit_meets_a_defect_is_not_ready(
    service_url: str, schema: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    reader = Reader(service_url, schema, max_connections=2)
    client = testing.TestClient(create_app(Service(ledger, reader, 3600)))
    client.simulate_put("/api/fungible/A")
    with monkeypatch.context() as broken:
        broken.setattr(stock_levels.MODEL, "write", lambda *_: 1 / 0)
        for _ in range(2):
            assert client.simulate_post("/api/fungible/A/add/1").status_code == 500
        assert failing(client) == set(), "one caller's command alone may meet a defect"
        assert client.simulate_post("/api/fungible/A/add/1").status_code == 500
        assert failing(client) == {"committer"}

    assert client.simulate_post("/api/fungible/A/add/1").status_code == 200
    assert failing(client) == set()
    reader.close()


def test_a_defect_of_long_ago_does_not_count(service_url: str, schema: str, monkeypatch: pytest.MonkeyPatch):
    counters = CommitterCounters()
    for _ in range(DEFECTS_IN_A_ROW):
        counters.met_defect()
    assert counters.is_defective()

    monkeypatch.setattr(committer_counters, "DEFECT_SECONDS", 0.0)
    assert not counters.is_defective()
