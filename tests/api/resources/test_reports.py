"""/api/reports over HTTP: what each report says, in which form, and what it reflects."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest
from falcon import testing

from api.app import create_app
from api.http.service import Service
from api.resources.report_forms import comma_separated
from api.resources.reports import Body
from ledger.engine.ledger import Ledger
from ledger.errors import BusyError, DatabaseAwayError
from ledger.stock.commands import AddStock, PutFungible
from ledger.store.connection import Connection
from projections.following.projection_runner import Follower
from projections.reader import Reader
from projections.reporting import report_reader, reports
from tests.chaos.service import wait_until

TODAY = datetime.now(UTC).date()


@pytest.fixture
def follower(service_url: str, schema: str) -> Iterator[Follower]:
    opened = Follower(service_url, schema)
    yield opened
    opened.close()


def follow(follower: Follower) -> None:
    while follower.step() == 0:
        pass


def put(client: testing.TestClient, path: str, **members: Any) -> None:
    assert client.simulate_put(f"/api/{path}", json=members).status_code == 200


def reserve(client: testing.TestClient, *lines: dict[str, Any], **more: Any) -> testing.Result:
    return client.simulate_post("/api/reservations", json={"lines": lines} | more)


def report(client: testing.TestClient, path: str) -> dict[str, Any]:
    answer = client.simulate_get(f"/api/reports/{path}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json
    assert answer.headers["Ledger-Position"] == str(body["position"])
    return body


def rows(client: testing.TestClient, path: str) -> list[tuple[Any, ...]]:
    return [tuple(item.values()) for item in report(client, path)["items"]]


@pytest.fixture
def shop(client: testing.TestClient) -> testing.TestClient:
    """Ten pencils of 3.00, of which two are held; three bikes, of which one is held and one sold; no paper."""
    put(client, "fungible/PENCIL", amount_in_stock=10, unit_price_cents=300, name="Pencil")
    put(client, "fungible/PAPER")
    for number, price in enumerate((10_000, 20_000, 40_000)):
        put(client, f"non-fungible/BIKE/{number}", price_cents=price)
    assert reserve(client, {"sku": "PENCIL", "quantity": 2}, {"sku": "BIKE", "sn": "0"}).status_code == 201
    put(client, "non-fungible/BIKE/2", sold=True)
    return client


def test_the_stock_report_has_a_row_for_each_sku(shop: testing.TestClient):
    body = report(shop, "stock")

    assert body["items"] == [
        {
            "sku": "BIKE",
            "name": None,
            "kind": "non-fungible",
            "amount_in_stock": 2,
            "reserved_quantity": 1,
            "available_quantity": 1,
            "unit_price_cents": None,
            "value_cents": 30_000,
        },
        {
            "sku": "PAPER",
            "name": None,
            "kind": "fungible",
            "amount_in_stock": 0,
            "reserved_quantity": 0,
            "available_quantity": 0,
            "unit_price_cents": 0,
            "value_cents": 0,
        },
        {
            "sku": "PENCIL",
            "name": "Pencil",
            "kind": "fungible",
            "amount_in_stock": 10,
            "reserved_quantity": 2,
            "available_quantity": 8,
            "unit_price_cents": 300,
            "value_cents": 3_000,
        },
    ]
    assert body["report"] == "stock"
    assert body["lag"] == {"events": 0, "seconds": 0.0}
    assert datetime.fromisoformat(body["time"]).tzinfo is not None


def test_the_stock_report_can_be_of_skus_that_begin_alike(shop: testing.TestClient):
    assert [row[0] for row in rows(shop, "stock?sku_prefix=P")] == ["PAPER", "PENCIL"]
    assert rows(shop, "stock?sku_prefix=p") == []
    assert rows(shop, "stock?sku_prefix=%25") == []


def test_a_hold_that_is_over_by_the_clock_is_over_in_every_report(shop: testing.TestClient, conn: Connection):
    past = datetime.now(UTC) - timedelta(seconds=1)
    conn.execute("UPDATE reservation_lines SET expires_at = %s", [past])
    conn.execute("UPDATE reservations SET expires_at = %s", [past])
    conn.execute("UPDATE items SET reserved_until = %s WHERE reserved_until IS NOT NULL", [past])

    assert [(row[0], row[4], row[5]) for row in rows(shop, "stock")] == [
        ("BIKE", 0, 2),
        ("PAPER", 0, 0),
        ("PENCIL", 0, 10),
    ]
    assert [row[1:] for row in rows(shop, "reservations")] == [(1, 0, 0, 1, 0, 0.0)]


def test_the_largest_values_are_exact(client: testing.TestClient):
    most = 2**53 - 1
    put(client, "fungible/A", amount_in_stock=most, unit_price_cents=most)

    assert f'"value_cents":{most * most}' in client.simulate_get("/api/reports/stock").text


def test_the_stock_report_at_a_position_is_what_it_said_then(client: testing.TestClient):
    """Every kind of event that the report depends on; after each, what it said is kept."""
    seen: dict[str, tuple[Any, str]] = {}

    def look() -> None:
        answer = client.simulate_get("/api/reports/stock")
        seen[answer.headers["Ledger-Position"]] = (answer.json["items"], answer.json["time"])

    def call(method: str, path: str, **members: Any) -> Any:
        answer = client.simulate_request(method, f"/api/{path}", json=members)
        assert answer.status_code < 300, answer.text
        look()
        return answer.json

    call("PUT", "fungible/A", unit_price_cents=3, name="a")
    call("PUT", "fungible/A", amount_in_stock=10, name=None)
    call("PUT", "fungible/A", unit_price_cents=5, color="red")
    call("PUT", "non-fungible/B/1")
    call("PUT", "non-fungible/B/2", price_cents=7)
    call("PUT", "non-fungible/B/1", price_cents=9, notes="x")
    call("POST", "fungible/A/remove/1")
    both = [{"sku": "A", "quantity": 2}, {"sku": "B", "sn": "1"}]
    cart = call("POST", "reservations", lines=both)["id"]
    call("POST", f"reservations/{cart}/extend", ttl_seconds=60)
    call("POST", f"reservations/{cart}/release", lines=[{"sku": "A", "quantity": 1}])
    call("POST", f"reservations/{cart}/purchase")
    call("POST", f"reservations/{cart}/return", lines=[{"sku": "A", "quantity": 1}, {"sku": "B", "sn": "1"}])
    call("DELETE", f"reservations/{call('POST', 'reservations', lines=both)['id']}")
    call("PUT", "non-fungible/B/2", sold=True, color="blue")
    call("PUT", "fungible/A", name="A!", amount_in_stock=0)

    assert len(seen) == 16
    for position, (items, time) in seen.items():
        then = client.simulate_get(f"/api/reports/stock?at_position={position}")
        assert then.json["items"] == items, position
        assert then.json["position"] == int(then.headers["Ledger-Position"]) == int(position)
        assert "immutable" in then.headers["Cache-Control"]
        assert client.simulate_get(f"/api/reports/stock?as_of={then.json['time']}").text == then.text
        assert client.simulate_get(f"/api/reports/stock?as_of={time}").json["items"] == items


def test_the_stock_report_knows_no_future_and_nothing_before_the_beginning(shop: testing.TestClient):
    head = report(shop, "stock")["position"]

    for path, bad in ((f"at_position={head + 1}", "at_position"), ("as_of=2999-01-01T00:00:00Z", "as_of")):
        answer = shop.simulate_get(f"/api/reports/stock?{path}")
        assert (answer.status_code, set(answer.json["errors"])) == (422, {bad})
    for path in ("at_position=0", "as_of=2001-01-01T00:00:00Z"):
        answer = shop.simulate_get(f"/api/reports/stock?{path}")
        assert (answer.status_code, answer.json["type"]) == (404, "/problems/not-found")
    assert shop.simulate_get(f"/api/reports/stock?at_position={head}&sku_prefix=PE").json["items"][0]["sku"] == "PENCIL"


def test_reservations_are_counted_by_what_became_of_them(shop: testing.TestClient, conn: Connection):
    ids = [reserve(shop, {"sku": "PENCIL", "quantity": 1}).json["id"] for _ in range(3)]
    shop.simulate_delete(f"/api/reservations/{ids[0]}")
    shop.simulate_post(f"/api/reservations/{ids[1]}/purchase")
    conn.execute(
        "UPDATE reservations SET created_at = created_at - interval '3 days' WHERE reservation_id = %s", [ids[2]]
    )

    assert rows(shop, "reservations") == [
        (str(TODAY - timedelta(days=3)), 1, 0, 0, 0, 1, 0.0),
        (str(TODAY), 3, 1, 1, 0, 1, 0.3333),
    ]
    assert len(rows(shop, f"reservations?from={TODAY}")) == 1
    assert len(rows(shop, f"reservations?to={TODAY - timedelta(days=1)}")) == 1


def test_movements_are_summed_by_what_was_asked(shop: testing.TestClient, follower: Follower, conn: Connection):
    follow(follower)
    conn.execute("UPDATE movements_daily SET day = day - 1 WHERE sku = 'BIKE'")
    yesterday, today = str(TODAY - timedelta(days=1)), str(TODAY)
    bike, paper, pencil = (3, 0, 1, 0, 0, 1, 0), (0, 0, 0, 0, 0, 0, 0), (10, 0, 2, 0, 0, 0, 0)

    assert [row[:-1] for row in rows(shop, "movements")] == [
        (yesterday, "BIKE", *bike),
        (today, "PAPER", *paper),
        (today, "PENCIL", *pencil),
    ]
    assert [row[:-1] for row in rows(shop, "movements?by=sku")] == [
        ("BIKE", *bike),
        ("PAPER", *paper),
        ("PENCIL", *pencil),
    ]
    assert [row[:-1] for row in rows(shop, "movements?by=day")] == [(yesterday, *bike), (today, *pencil)]
    assert [row[:-1] for row in rows(shop, f"movements?by=sku,day&from={today}&sku=PENCIL")] == [
        (today, "PENCIL", *pencil)
    ]


def test_a_report_of_a_read_model_that_is_behind_says_so(shop: testing.TestClient, follower: Follower):
    nothing = report(shop, "movements")
    follow(follower)
    current = report(shop, "movements")
    reserve(shop, {"sku": "PENCIL", "quantity": 1})
    behind = report(shop, "movements")

    assert (nothing["position"], nothing["time"], nothing["items"]) == (0, None, [])
    assert nothing["lag"]["events"] == current["position"]
    assert current["lag"] == {"events": 0, "seconds": 0.0}
    assert behind["position"] == current["position"]
    assert behind["lag"]["events"] == 1
    assert behind["time"] < current["time"]
    assert behind["items"] == current["items"]


def valued(conn: Connection, *facts: tuple[str, int, int, int, int]) -> None:
    """SKU, day of November, units, of these reserved, price."""
    for sku, day, on_hand, reserved, price in facts:
        conn.execute(
            "INSERT INTO valuations_daily VALUES (%s, %s, %s, %s, %s, %s)",
            [sku, date(2025, 11, day), on_hand, reserved, on_hand * price, reserved * price],
        )


def test_the_valuation_of_a_day_on_which_nothing_changed_is_that_of_the_day_before(
    client: testing.TestClient, conn: Connection
):
    valued(conn, ("A", 1, 10, 1, 100), ("A", 3, 8, 0, 100), ("B", 2, 1, 1, 7), ("B", 5, 0, 0, 7))

    assert [row[0][-2:] + str(row[1:]) for row in rows(client, "valuation?from=2025-10-31&to=2025-11-05")] == [
        "31(0, 0, 0, 0)",
        "01(10, 1, 1000, 100)",
        "02(11, 2, 1007, 107)",
        "03(9, 1, 807, 7)",
        "04(9, 1, 807, 7)",
        "05(8, 0, 800, 0)",
    ]
    assert rows(client, "valuation?from=2025-11-04&to=2025-11-05&by=day,sku") == [
        ("2025-11-04", "A", 8, 0, 800, 0),
        ("2025-11-05", "A", 8, 0, 800, 0),
        ("2025-11-04", "B", 1, 1, 7, 7),
        ("2025-11-05", "B", 0, 0, 0, 0),
    ]
    assert rows(client, "valuation?from=2025-11-03&to=2025-11-03&sku=B") == [("2025-11-03", 1, 1, 7, 7)]
    assert rows(client, "valuation?from=2025-11-01&to=2025-11-01&by=day,sku&sku=B") == []


def test_the_valuation_ends_today(client: testing.TestClient, conn: Connection):
    valued(conn, ("A", 1, 10, 1, 100))
    later = TODAY + timedelta(days=3)

    for by in ("day", "day,sku"):
        assert rows(client, f"valuation?from={TODAY}&to={later}&by={by}")[-1][0] in (
            str(TODAY),
            str(TODAY + timedelta(1)),
        )
        assert len(rows(client, f"valuation?from={TODAY}&to={later}&by={by}")) <= 2


def test_shortages_are_what_was_asked_for_and_refused(shop: testing.TestClient):
    assert reserve(shop, {"sku": "PENCIL", "quantity": 11}).status_code == 409
    assert reserve(shop, {"sku": "PENCIL", "quantity": 9}).status_code == 409
    assert reserve(shop, {"sku": "PAPER", "quantity": 9}, partial=True).status_code == 409

    assert [row[1:] for row in rows(shop, "shortages")] == [("PAPER", 1, 9, 9), ("PENCIL", 2, 20, 4)]
    assert [row[1:] for row in rows(shop, "shortages?by=day")] == [(3, 29, 13)]


def test_csv_has_the_columns_names_and_the_rest_in_headers(shop: testing.TestClient):
    put(shop, "fungible/a,b", name='6" ruler\nlong')
    answer = shop.simulate_get("/api/reports/stock", headers={"Accept": "text/csv"})

    lines = list(csv.reader(io.StringIO(answer.text, newline="")))
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert int(answer.headers["Ledger-Position"]) == report(shop, "stock")["position"]
    assert answer.headers["Ledger-Lag"] == "events=0, seconds=0.0"
    assert datetime.fromisoformat(answer.headers["Ledger-Time"])
    assert lines[0] == list(report(shop, "stock")["items"][0])
    assert lines[1] == ["BIKE", "", "non-fungible", "2", "1", "1", "", "30000"]
    assert lines[4][:2] == ["a,b", '6" ruler\nlong']
    assert answer.text.endswith("\r\n")


def test_csv_has_no_formula_that_a_caller_wrote(client: testing.TestClient):
    put(client, "fungible/=1+1", name="@SUM(A1)", amount_in_stock=1)
    put(client, "fungible/-5")

    text = client.simulate_get("/api/reports/stock?format=csv").text
    assert [line.split(",")[:2] for line in text.splitlines()[1:]] == [["'-5", ""], ["'=1+1", "'@SUM(A1)"]]
    assert [row[0] for row in rows(client, "stock")] == ["-5", "=1+1"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/*", "text/csv; charset=utf-8"),
        ("text/csv;q=0.9, application/json;q=0.1", "text/csv; charset=utf-8"),
        ("application/json, text/csv", "application/json"),
    ],
)
def test_the_caller_chooses_the_form(client: testing.TestClient, accept: str | None, expected: str):
    answer = client.simulate_get("/api/reports/stock", headers={"Accept": accept} if accept else None)

    assert answer.headers["Content-Type"] == expected


def test_a_form_that_there_is_not_is_406(client: testing.TestClient):
    answer = client.simulate_get("/api/reports/stock", headers={"Accept": "application/xml"})

    assert (answer.status_code, answer.json["type"]) == (406, "/problems/not-acceptable")


@pytest.mark.parametrize(
    ("path", "bad"),
    [
        ("stock?sku=A", {"sku"}),
        ("stock?format=xml", {"format"}),
        ("stock?sku_prefix=" + "x" * 101, {"sku_prefix"}),
        ("stock?sku_prefix=%00", {"sku_prefix"}),
        ("movements?from=yesterday&to=2026-02-30&by=week&sku=", {"from", "to", "by", "sku"}),
        ("movements?from=2026-01-02&to=2026-01-01", {"from"}),
        ("movements?from=2016-01-01&to=2026-01-08", {"from"}),
        ("movements?by=day,day", {"by"}),
        ("movements?from=２０２６-01-01", {"from"}),
        ("valuation?by=sku", {"by"}),
        ("reservations?by=day", {"by"}),
        ("shortages?from=2026-1-1", {"from"}),
    ],
)
def test_what_cannot_be_meant_is_named(client: testing.TestClient, path: str, bad: set[str]):
    answer = client.simulate_get(f"/api/reports/{path}")

    assert (answer.status_code, set(answer.json["errors"])) == (422, bad)


def test_the_first_and_the_last_day_there_are_can_be_asked_for(client: testing.TestClient):
    for day in ("0001-01-01", "9999-12-31"):
        for name in ("movements", "reservations", "shortages", "valuation", "valuation?by=day,sku"):
            assert isinstance(rows(client, f"{name}{'&' if '?' in name else '?'}to={day}"), list)


def test_there_is_no_report_of_another_name(client: testing.TestClient):
    answer = client.simulate_get("/api/reports/gossip")

    assert (answer.status_code, answer.json["type"]) == (404, "/problems/not-found")
    assert client.simulate_post("/api/reports/stock").status_code == 405


@pytest.fixture
def reader(service_url: str, schema: str) -> Iterator[Reader]:
    opened = Reader(service_url, schema, max_connections=1)
    yield opened
    opened.close()


@pytest.fixture
def beside(reader: Reader, ledger: Ledger) -> testing.TestClient:
    """The application with that reader."""
    return testing.TestClient(create_app(Service(ledger, reader, 3600)))


def test_more_than_a_few_at_once_are_told_to_come_back(
    reader: Reader, beside: testing.TestClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(report_reader, "WAIT_SECONDS", 0.01)
    opened = [reader.reports.open(reports.stock()) for _ in range(report_reader.MAX_REPORTS)]
    refused = beside.simulate_get("/api/reports/stock")
    opened.pop().close()
    allowed = beside.simulate_get("/api/reports/stock")
    opened.pop().close()

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json["type"] == "/problems/busy"
    assert allowed.status_code == 200


def test_a_report_sees_one_moment_and_holds_up_no_writer(
    reader: Reader, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(report_reader, "_FETCH", b"FETCH 1 FROM report")
    for sku in "ABC":
        ledger.handle(PutFungible(sku=sku, amount_in_stock=1))

    opened = reader.reports.open(reports.stock())
    seen = []
    for (row,) in opened.rows():
        ledger.handle_many([AddStock(sku=sku, quantity=1) for sku in "ABC"])
        seen.append(row[:4])
    opened.close()

    assert seen == [(sku, None, "fungible", 1) for sku in "ABC"]
    assert opened.reflected.position == 6


def sessions(conn: Connection) -> list[str]:
    """States of the connections that reports have."""
    query = "SELECT state FROM pg_stat_activity WHERE application_name = 'stockledger report'"
    return [state for (state,) in conn.execute(query)]


def test_who_goes_away_in_the_middle_frees_everything(
    reader: Reader, beside: testing.TestClient, conn: Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(report_reader, "WAIT_SECONDS", 0.01)
    for _ in range(report_reader.MAX_REPORTS + 1):
        body = reader.reports.open(reports.stock())
        pieces = Body(body, comma_separated(body))
        next(iter(pieces))
        assert sessions(conn) == ["idle in transaction"]
        pieces.close()
        wait_until(lambda: sessions(conn) == [], 5, "the connection is closed")


@pytest.mark.parametrize("setting", ["STATEMENT_SECONDS", "REPORT_SECONDS"])
def test_a_report_that_takes_too_long_is_ended(
    reader: Reader, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, setting: str
):
    ledger.handle(PutFungible(sku="A"))
    slow = msgspec.structs.replace(reports.stock(), query="SELECT pg_sleep(60)", parameters={})
    monkeypatch.setattr(report_reader, "_SETTINGS", {"statement_timeout": "50ms"})

    if setting == "STATEMENT_SECONDS":
        with pytest.raises(BusyError):
            reader.reports.open(slow)
    else:
        monkeypatch.setattr(report_reader, "REPORT_SECONDS", 0)
        opened = reader.reports.open(reports.stock())
        with pytest.raises(psycopg.errors.QueryCanceled):
            list(opened.rows())
        opened.close()
    for _ in range(report_reader.MAX_REPORTS):  # nothing is lost
        reader.reports.open(reports.stock()).close()


def test_reports_wait_for_no_database_that_is_away(service_url: str, schema: str):
    away = psycopg.conninfo.make_conninfo(service_url, host="127.0.0.1", port="1")
    reader = report_reader.ReportReader(away, schema)
    for _ in range(report_reader.MAX_REPORTS + 1):
        with pytest.raises(DatabaseAwayError):
            reader.open(reports.stock())
