"""`stockledger history` and `status`: what an auditor and an operator see in the terminal."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from falcon.testing import TestClient

from api.cli import main
from api.commands import chart
from ledger.store.connection import Connection
from projections.inline import TABLES

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"


@pytest.fixture(autouse=True)
def _ledger_of_the_commands(monkeypatch: pytest.MonkeyPatch, postgres_url: str, schema: str) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    monkeypatch.setenv("STOCKLEDGER_SCHEMA", schema)


@pytest.fixture(autouse=True)
def _shop(client: TestClient) -> None:
    client.simulate_put("/api/fungible/A", json={"amount_in_stock": 10})
    client.simulate_post("/api/fungible/A/reserve/3", json={"reason": "red \x1b[31m\nalarm", "reference": "R" * 40})
    client.simulate_put("/api/fungible/A", json={"color": "Red"})
    client.simulate_put("/api/non-fungible/B/1")
    client.simulate_put("/api/non-fungible/B/1/reservation")
    client.simulate_put("/api/non-fungible/B/1", json={"sold": True})


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The table that the command prints: its cells, joined by a bar, times left out."""
    assert main(arguments) == 0
    table = capsys.readouterr().out.partition("\n\n")[0]
    return [re.sub(rf"{TIME}\|", "", re.sub(r" {2,}", "|", line.strip())) for line in table.splitlines()]


def test_a_product_s_history_has_the_running_balance(capsys: pytest.CaptureFixture[str]):
    cells = shown(capsys, "history", "A")

    assert cells == [
        "position|time (UTC)|event|quantity|on hand|reserved|available|actor|reason|reference",
        "1|ProductRegistered|0|0|0|anonymous",
        "2|StockAdded|10|10|0|10|anonymous",
        f"3|StockReserved|3|10|3|7|anonymous|red ·[31m·alarm|{'R' * 29}…",
        "4|ProductRevised|10|3|7|anonymous",
    ]


def test_the_last_entries_begin_with_the_balance_before_them(capsys: pytest.CaptureFixture[str]):
    assert shown(capsys, "history", "A", "--limit", "1")[1:] == ["4|ProductRevised|10|3|7|anonymous"]


def test_an_item_is_one_unit_until_it_is_sold(capsys: pytest.CaptureFixture[str]):
    assert shown(capsys, "history", "B", "1")[1:] == [
        "5|ProductRegistered|0|0|0|anonymous",
        "6|ItemAdded|1|1|0|1|anonymous",
        "7|ItemReserved|1|1|1|0|anonymous",
        "8|ItemPurchased|1|0|0|0|anonymous",
    ]
    assert shown(capsys, "history", "B", "1", "--limit", "1")[1:] == ["8|ItemPurchased|1|0|0|0|anonymous"]


def test_a_range_of_time_is_that_of_the_statement(capsys: pytest.CaptureFixture[str], conn: Connection):
    (third,) = conn.execute("SELECT recorded_at FROM stored_events WHERE notification_id = 3").fetchone() or ()

    assert shown(capsys, "history", "A", "--to", third.isoformat())[-1] == "2|StockAdded|10|10|0|10|anonymous"
    assert shown(capsys, "history", "A", "--from", third.isoformat())[1].startswith("3|StockReserved")
    assert shown(capsys, "history", "A", "--to", "2000-01-01T00:00:00Z") == ["nothing in that time"]


def test_as_json_it_is_what_the_statement_answers(capsys: pytest.CaptureFixture[str], client: TestClient):
    assert main(["history", "A", "--json"]) == 0

    page = json.loads(capsys.readouterr().out)
    assert page == {"items": client.simulate_get("/api/fungible/A/history").json["items"], "position": 8}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["C"], "no product"), (["A", "1"], "is a fungible product"), (["B", "9"], "no item"), (["B"], "non-fungible")],
)
def test_what_has_no_history_is_said_on_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
):
    assert main(["history", *arguments]) == 1

    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    assert complaint in printed.err


@pytest.mark.parametrize("bad", [["--limit", "0"], ["--from", "yesterday"], ["--to", "2026-11-22"]])
def test_what_cannot_be_meant_is_refused(capsys: pytest.CaptureFixture[str], bad: list[str]):
    with pytest.raises(SystemExit) as refused:
        main(["history", "A", *bad])

    assert refused.value.code == 2
    assert bad[0] in capsys.readouterr().err


def test_the_status_tells_positions_lags_and_sizes(capsys: pytest.CaptureFixture[str], conn: Connection):
    conn.execute("UPDATE reservations SET expires_at = created_at WHERE position = 3")
    assert main(["status", "--json"]) == 0

    status = json.loads(capsys.readouterr().out)
    models = {model["name"]: (model["position"], model["lag_events"]) for model in status["read_models"]}
    assert status["position"] == 8
    assert (
        status["digest"]
        == conn.execute("SELECT encode(digest, 'hex') FROM stored_events WHERE notification_id = 8").fetchone()[0]
    )
    assert (status["open_reservations"], status["overdue_reservations"]) == (0, 1)
    assert {models[table] for table in TABLES} == {(8, 0)}
    assert models["movements_daily"] == (0, 8)
    log = next(table for table in status["tables"] if table["name"] == "stored_events")
    assert status["bytes_per_event"] == (log["table_bytes"] + log["index_bytes"]) // 8
    assert status["migrations"][0]["name"] == "0001_log.sql"


def test_the_status_can_be_read_without_json(capsys: pytest.CaptureFixture[str]):
    assert main(["status"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["log", "position", "8,"]
    assert any(line.split()[:3] == ["movements_daily", "0", "8"] for line in lines)


def point(seconds: int, on_hand: int, reserved: int) -> chart.Point:
    return chart.Point(NOON + timedelta(seconds=seconds), on_hand, reserved)


def test_the_chart_carries_each_balance_on_to_the_next():
    drawn = chart.draw([point(0, 4, 0), point(5, 8, 4), point(10, 0, 0)], 14)

    assert drawn == [
        "8 │     ░░░░░",
        "  │     ░░░░░",
        "  │     ░░░░░",
        "  │     ░░░░░",
        "  │░░░░░█████",
        "  │░░░░░█████",
        "  │░░░░░█████",
        "0 │░░░░░█████",
        "   2026-11-22 12:00:00 2026-11-22 12:00:10",
        "   ░ on hand  █ reserved",
    ]


def test_what_is_there_at_all_is_seen():
    drawn = chart.draw([point(0, 1000, 1), point(10, 1, 0)], 6)

    assert drawn[7] == "   0 │█░"
    assert chart.draw([point(0, 0, 0)], 80)[:8] == ["1 │", *["  │"] * 6, "0 │"]


def test_facts_of_one_moment_show_the_last_of_them():
    assert chart.draw([point(0, 0, 0), point(0, 5, 0)], 7)[0] == "5 │░░░░"
