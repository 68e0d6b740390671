"""The account statement of a product and of an item: every event in order, with who, why and the balance after it."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from ledger.store import point_in_time

A = "/api/fungible/A"
ITEM = "/api/non-fungible/B/1"


def put(client: TestClient) -> str:
    """Six facts of A, none of them alone in the log; returns the id of the reservation."""
    client.simulate_put(A, json={"amount_in_stock": 10, "color": "Red"})  # 1, 2
    client.simulate_put("/api/fungible/OTHER", json={"amount_in_stock": 1})  # 3, 4
    client.simulate_post(f"{A}/add/5", json={"reason": "delivery", "reference": "PO 7"}, headers={"X-Request-Id": "r5"})
    held = client.simulate_post(f"{A}/reserve/3", json={"owner": "ann"}).json["reservation"]["id"]  # 6
    client.simulate_put(A, json={"color": "Blue"})  # 7
    client.simulate_post("/api/fungible/OTHER/add/1")  # 8
    client.simulate_post(f"/api/reservations/{held}/purchase")  # 9
    return str(held)


def history(client: TestClient, path: str = A, **parameters: str) -> Any:
    answer = client.simulate_get(f"{path}/history", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json


def positions(page: Any) -> list[int]:
    return [item["position"] for item in page["items"]]


def refusal(answer: Result) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status_code, answer.json["type"].removeprefix("/problems/")


def test_a_product_s_statement_has_its_facts_and_its_stock_s_in_the_order_of_the_log(client: TestClient):
    held = put(client)

    page = history(client)

    by = {"actor": "anonymous"}
    times = [item.pop("recorded_at") for item in page["items"]]
    requests = [item.pop("request_id") for item in page["items"]]
    balance = {"amount_in_stock": 15, "reserved_quantity": 3}
    reserved = page["items"][3]
    assert reserved.pop("expires_at") > times[3]
    assert page["items"] == [
        {"position": 1, "version": 1, "event": "ProductRegistered.v1", "kind": "fungible", "color": "Red", **by},
        {
            **{"position": 2, "version": 1, "event": "StockAdded.v1", "quantity": 10, **by},
            **{"amount_in_stock": 10, "reserved_quantity": 0},
        },
        {
            **{"position": 5, "version": 2, "event": "StockAdded.v1", "quantity": 5, **by},
            **{"amount_in_stock": 15, "reserved_quantity": 0, "reason": "delivery", "reference": "PO 7"},
        },
        {
            **{"position": 6, "version": 3, "event": "StockReserved.v1", "quantity": 3, **by, **balance},
            **{"reservation_id": held, "owner": "ann"},
        },
        {"position": 7, "version": 2, "event": "ProductRevised.v1", "color": "Blue", **by},
        {
            **{"position": 9, "version": 4, "event": "StockPurchased.v1", "quantity": 3, **by},
            **{"amount_in_stock": 12, "reserved_quantity": 0, "reservation_id": held},
            "purchase_id": page["items"][5]["purchase_id"],
        },
    ]
    assert page["next_cursor"] is None
    assert requests[2] == "r5"
    assert times == sorted(times)


def test_the_statement_reflects_the_head_of_the_log(client: TestClient):
    put(client)

    assert client.simulate_get(f"{A}/history").headers["Ledger-Position"] == "9"


def test_an_item_s_statement_has_its_facts_and_its_product_s(client: TestClient):
    client.simulate_put(ITEM, json={"color": "Red", "description": "bike"})
    client.simulate_put("/api/non-fungible/B/2")
    client.simulate_put(f"{ITEM}/reservation", json={"owner": "ann"})
    client.simulate_delete(f"{ITEM}/reservation")

    page = history(client, ITEM)

    assert [(item["position"], item["event"]) for item in page["items"]] == [
        (1, "ProductRegistered.v1"),
        (2, "ItemAdded.v1"),
        (4, "ItemReserved.v1"),
        (5, "ItemReleased.v1"),
    ]


def test_an_item_may_be_called_history(client: TestClient):
    client.simulate_put("/api/non-fungible/B/history", json={"color": "Red"})

    assert client.simulate_get("/api/non-fungible/B/history").json["sn"] == "history"
    assert positions(history(client, "/api/non-fungible/B/history")) == [1, 2]


@pytest.mark.parametrize(("order", "expected"), [("asc", [1, 2, 5, 6, 7, 9]), ("desc", [9, 7, 6, 5, 2, 1])])
def test_pages_follow_each_other_forward_and_backward(client: TestClient, order: str, expected: list[int]):
    put(client)

    for limit in range(1, 8):
        seen: list[int] = []
        cursor: str | None = None
        while True:
            more = {"cursor": cursor} if cursor else {}
            page = history(client, order=order, limit=str(limit), **more)
            assert len(page["items"]) <= limit
            seen += positions(page)
            assert len(seen) <= len(expected)
            if (cursor := page["next_cursor"]) is None:
                break
        assert seen == expected


def test_a_range_of_time_includes_its_beginning_and_not_its_end(client: TestClient):
    put(client)
    times = {item["position"]: datetime.fromisoformat(item["recorded_at"]) for item in history(client)["items"]}
    tick = timedelta(microseconds=1)

    assert positions(history(client, **{"from": times[5].isoformat(), "to": times[7].isoformat()})) == [5, 6]
    assert positions(history(client, **{"from": (times[5] + tick).isoformat()})) == [6, 7, 9]
    assert positions(history(client, to=(times[5] + tick).isoformat())) == [1, 2, 5]
    assert positions(history(client, to=times[5].isoformat(), order="desc")) == [2, 1]
    assert positions(history(client, **{"from": "2000-01-01T00:00:00Z", "to": "2000-01-02T00:00:00Z"})) == []
    assert positions(history(client, **{"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"})) == [
        1,
        2,
        5,
        6,
        7,
        9,
    ]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("StockAdded", [2, 5]),
        ("StockAdded.v1", [2, 5]),
        ("StockAdded,ProductRevised.v1", [2, 5, 7]),
        ("ItemAdded", []),
    ],
)
def test_events_can_be_chosen_by_name(client: TestClient, event: str, expected: list[int]):
    put(client)

    assert positions(history(client, event=event)) == expected
    assert positions(history(client, event=event, order="desc")) == expected[::-1]


def test_the_name_of_an_event_may_be_given_more_than_once(client: TestClient):
    put(client)

    page = client.simulate_get(f"{A}/history", query_string="event=StockAdded&event=ProductRevised").json

    assert positions(page) == [2, 5, 7]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_rare_event_is_found_by_going_on_from_short_pages(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, order: str
):
    monkeypatch.setattr(point_in_time, "MAX_SCANNED", 3)
    put(client)
    seen: list[int] = []
    pages = 0
    cursor: str | None = None
    while pages == 0 or (cursor and pages < 9):
        more = {"cursor": cursor} if cursor else {}
        page = history(client, event="ProductRevised", limit="2", order=order, **more)
        seen += positions(page)
        cursor, pages = page["next_cursor"], pages + 1

    assert (seen, pages) == ([7], 3)


def test_what_is_not_there_has_no_history(client: TestClient):
    put(client)
    client.simulate_put(ITEM)

    assert refusal(client.simulate_get("/api/fungible/C/history")) == (404, "unknown-product")
    assert refusal(client.simulate_get("/api/fungible/B/history")) == (409, "other-kind")
    assert refusal(client.simulate_get("/api/non-fungible/C/1/history")) == (404, "unknown-product")
    assert refusal(client.simulate_get("/api/non-fungible/B/9/history")) == (404, "unknown-item")
    assert refusal(client.simulate_get("/api/non-fungible/A/1/history")) == (409, "other-kind")


@pytest.mark.parametrize(
    ("query", "member"),
    [
        ("order=up", "order"),
        ("event=StockStolen", "event"),
        ("event=StockAdded.v2", "event"),
        ("event=StockAdded,", "event"),
        ("from=yesterday", "from"),
        ("from=2026-11-22T10:00:00", "from"),
        ("from=2026-11-22", "from"),
        ("to=2026-13-22T10:00:00Z", "to"),
        ("to=0001-01-01T00:00:00%2B10:00", "to"),
        ("to=2026-11-22T10:00:00.1234567Z", "to"),
        ("from=2026-11-22T10:00:01Z&to=2026-11-22T10:00:00Z", "from"),
        ("limit=501", "limit"),
        ("cursor=x", "cursor"),
        ("colour=Red", "colour"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(client: TestClient, query: str, member: str):
    put(client)

    answer = client.simulate_get(f"{A}/history", query_string=query)

    assert refusal(answer) == (422, "invalid")
    assert list(answer.json["errors"]) == [member]
