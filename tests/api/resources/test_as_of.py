"""What there was at a past moment, by time and by position: the same answer for ever."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from ledger.caller import set_deadline
from ledger.errors import BusyError
from ledger.events import EVENTS
from ledger.store import point_in_time
from ledger.store.connection import Connection, connect, lock_key
from ledger.store.point_in_time import RESERVATION_TOPICS
from projections import as_of

A = "/api/fungible/A"
ITEM = "/api/non-fungible/B/1"
TICK = timedelta(microseconds=1)


def states(client: TestClient, path: str, calls: list[Callable[[], Result]]) -> dict[int, tuple[Any, str | None]]:
    """What GET answered after each call: body and ETag by log position."""
    seen = {}
    for call in calls:
        assert call().status_code < 300
        now = client.simulate_get(path)
        seen[int(now.headers["Ledger-Position"])] = now.json, now.headers.get("ETag")
    return seen


def recorded(conn: Connection) -> dict[int, datetime]:
    return dict(conn.execute("SELECT notification_id, recorded_at FROM stored_events").fetchall())


def assert_past(client: TestClient, conn: Connection, path: str, seen: dict[int, tuple[Any, str | None]]) -> None:
    """By position, and by every time from the entry's own up to just before the next entry's."""
    times = recorded(conn)
    for position, (body, etag) in seen.items():
        latest = times[position + 1] - TICK if position + 1 in times else times[position]
        for asked in ({"at_position": position}, {"as_of": times[position].isoformat()}, {"as_of": latest.isoformat()}):
            then = client.simulate_get(path, params=asked)
            assert (then.status_code, then.json, then.headers.get("ETag")) == (200, body, etag)
            assert then.headers["Ledger-Position"] == str(position)
            assert "immutable" in then.headers["Cache-Control"]


def refusal(answer: Result) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status_code, answer.json["type"].removeprefix("/problems/")


def test_a_product_is_told_as_it_was(client: TestClient, conn: Connection):
    seen = states(
        client,
        A,
        [
            lambda: client.simulate_put(A, json={"color": "Red"}),
            lambda: client.simulate_put(A, json={"amount_in_stock": 10, "name": "pencil"}),
            lambda: client.simulate_post(f"{A}/reserve/4"),
            lambda: client.simulate_put(A, json={"color": None, "unit_price_cents": 5}),
            lambda: client.simulate_post(f"{A}/remove/6"),
        ],
    )

    assert_past(client, conn, A, seen)


def test_an_item_is_told_as_it_was(client: TestClient, conn: Connection):
    seen = states(
        client,
        ITEM,
        [
            lambda: client.simulate_put(ITEM, json={"color": "Red", "description": "bike"}),
            lambda: client.simulate_put(f"{ITEM}/reservation"),
            lambda: client.simulate_put(ITEM, json={"price_cents": 7, "description": "big bike"}),
            lambda: client.simulate_delete(f"{ITEM}/reservation"),
            lambda: client.simulate_put(ITEM, json={"sold": True}),
            lambda: client.simulate_put(ITEM, json={"sold": False}),
        ],
    )

    assert_past(client, conn, ITEM, seen)


def test_a_reservation_is_told_as_it_was(client: TestClient, conn: Connection):
    client.simulate_put(A, json={"amount_in_stock": 10})
    client.simulate_put(ITEM)
    made = client.simulate_post(
        "/api/reservations", json={"lines": [{"sku": "A", "quantity": 5}, {"sku": "B", "sn": "1"}], "owner": "ann"}
    )
    path = f"/api/reservations/{made.json['id']}"
    two = {"lines": [{"sku": "A", "quantity": 2}]}
    seen = states(
        client,
        path,
        [
            lambda: made,
            lambda: client.simulate_post(f"{A}/add/1"),
            lambda: client.simulate_post(f"{path}/extend", json={"ttl_seconds": 7000}),
            lambda: client.simulate_post(f"{path}/release", json=two),
            lambda: client.simulate_post(f"{path}/purchase", json={}),
            lambda: client.simulate_post(f"{path}/return", json={"lines": [{"sku": "A", "quantity": 1}]}),
        ],
    )

    assert [body["state"] for body, _ in seen.values()] == ["open"] * 4 + ["purchased"] * 2
    assert_past(client, conn, path, seen)


def test_a_hold_that_is_over_since_shows_as_the_log_had_it(client: TestClient):
    client.simulate_put(A, json={"amount_in_stock": 10})
    held = client.simulate_post(f"{A}/reserve/4", json={"ttl_seconds": 1})
    path = f"/api/reservations/{held.json['reservation']['id']}"
    while client.simulate_get(path).json["state"] == "open":
        time.sleep(0.02)

    assert client.simulate_get(A).json["reserved_quantity"] == 0
    assert client.simulate_get(A, params={"at_position": 3}).json["reserved_quantity"] == 4
    assert client.simulate_get(path, params={"at_position": 3}).json["state"] == "open"


def test_before_the_first_event_there_is_nothing(client: TestClient, conn: Connection):
    client.simulate_put("/api/fungible/OTHER")
    client.simulate_put(A, json={"amount_in_stock": 1})
    client.simulate_put(ITEM)  # positions 4 and 5
    held = client.simulate_post(f"{A}/reserve/1").json["reservation"]["id"]
    times = recorded(conn)

    for asked in ({"at_position": 1}, {"at_position": 0}, {"as_of": (times[2] - TICK).isoformat()}):
        assert refusal(client.simulate_get(A, params=asked)) == (404, "unknown-product")
    assert refusal(client.simulate_get(ITEM, params={"at_position": 3})) == (404, "unknown-product")
    assert refusal(client.simulate_get(ITEM, params={"at_position": 4})) == (404, "unknown-item")
    unknown = client.simulate_get(f"/api/reservations/{held}", params={"at_position": 5})
    assert refusal(unknown) == (404, "unknown-reservation")
    assert unknown.headers["Ledger-Position"] == "5"
    assert refusal(client.simulate_get(A, params={"as_of": "0001-01-01T00:00:00Z"})) == (404, "unknown-product")


def test_a_product_without_stock_facts_has_none(client: TestClient):
    client.simulate_put(A, json={"amount_in_stock": 1})

    then = client.simulate_get(A, params={"at_position": 1}).json

    assert (then["amount_in_stock"], then["version"]) == (0, 1)


def test_what_is_known_already_is_not_sent_again(client: TestClient):
    client.simulate_put(A, json={"amount_in_stock": 1})
    client.simulate_post(f"{A}/add/1")

    again = client.simulate_get(A, params={"at_position": 2}, headers={"If-None-Match": '"2"'})

    assert (again.status_code, again.content, again.headers["Ledger-Position"]) == (304, b"", "2")


@pytest.mark.parametrize(
    ("query", "member"),
    [
        ("at_position=3", "at_position"),
        ("at_position=-1", "at_position"),
        ("at_position=", "at_position"),
        ("as_of=2999-01-01T00:00:00Z", "as_of"),
        ("as_of=now", "as_of"),
        ("as_of=2026-11-22T10:00:00", "as_of"),
        ("as_of=2026-11-22T10:00:00Z&at_position=1", "at_position"),
        ("as_at=2026-11-22T10:00:00Z", "as_at"),
    ],
)
@pytest.mark.parametrize("path", [A, ITEM, "/api/reservations/00000000-0000-4000-8000-000000000001"])
def test_a_moment_that_cannot_be_told_is_refused_by_name(client: TestClient, path: str, query: str, member: str):
    client.simulate_put(A, json={"amount_in_stock": 1})

    answer = client.simulate_get(path, query_string=query)

    assert refusal(answer) == (422, "invalid")
    assert list(answer.json["errors"]) == [member]


def test_an_offset_s_plus_need_not_be_encoded(client: TestClient, conn: Connection):
    client.simulate_put(A, json={"amount_in_stock": 1})
    as_of = recorded(conn)[1].astimezone(timezone(timedelta(hours=2)))

    answer = client.simulate_get(A, query_string=f"as_of={as_of.isoformat()}")

    assert (answer.status_code, answer.headers["Ledger-Position"]) == (200, "2")


def writer_in_flight(conn: Connection, schema: str) -> datetime:
    """Begin what a committer does: take the lock, then the time; returns the time."""
    conn.execute("BEGIN")
    conn.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(schema, "log")])
    row = conn.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]


def test_a_recent_moment_waits_for_who_may_still_write_into_it(
    client: TestClient, conn: Connection, postgres_url: str, schema: str
):
    client.simulate_put(A, json={"amount_in_stock": 1})
    with connect(postgres_url, schema) as writer:
        begun = writer_in_flight(writer, schema)
        answers: list[Result] = []
        asking = threading.Thread(
            target=lambda: answers.append(client.simulate_get(A, params={"as_of": begun.isoformat()}))
        )
        asking.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND mode = 'ShareLock'"
        while asking.is_alive() and conn.execute(waiting).fetchone() == (0,):
            pass
        writer.execute(
            "INSERT INTO stored_events SELECT 'stock/main/A', 2, 'StockAdded.v1', %s, 3, %s, ''",
            [b'{"actor":"a","request_id":"r","quantity":4,"on_hand":5,"reserved":0}', begun],
        )
        writer.execute("COMMIT")
        asking.join()

    assert (answers[0].json["amount_in_stock"], answers[0].headers["Ledger-Position"]) == (5, "3")


def test_a_recent_moment_is_refused_while_a_writer_hangs(client: TestClient, postgres_url: str, schema: str):
    client.simulate_put(A, json={"amount_in_stock": 1})
    with connect(postgres_url, schema) as writer:
        begun = writer_in_flight(writer, schema)
        recent = client.simulate_get(A, params={"as_of": begun.isoformat()})
        old = client.simulate_get(A, params={"as_of": (begun - timedelta(minutes=2)).isoformat()})
        current = client.simulate_get(A, params={"at_position": 2})

    assert (refusal(recent), recent.headers["Retry-After"]) == ((503, "busy"), "1")
    assert refusal(old) == (404, "unknown-product")
    assert current.status_code == 200


def test_the_index_has_every_kind_of_event_that_is_about_a_reservation(conn: Connection):
    row = conn.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'stored_events_reservation_idx'").fetchone()
    assert row is not None

    about = {name for name, event in EVENTS.items() if "reservation_id" in event.__struct_fields__}

    assert set(RESERVATION_TOPICS) == about
    assert {name for name in EVENTS if f"'{name}'" in row[0]} == about


@pytest.mark.parametrize("events", [0, 1, 2, 7])
def test_a_time_is_the_last_position_recorded_by_then(conn: Connection, events: int):
    """Three entries to each second."""
    begin = datetime(2026, 11, 22, 10, tzinfo=UTC)
    for n in range(events):
        conn.execute(
            "INSERT INTO stored_events SELECT 'stock/main/A', %s, 'StockAdded.v1', '{}', %s, %s, ''",
            [n + 1, n + 1, begin + timedelta(seconds=n // 3)],
        )

    for tick in range(-1, 10):
        moment = begin + timedelta(seconds=tick / 2)
        expected = sum(begin + timedelta(seconds=n // 3) <= moment for n in range(events))
        assert conn.execute("SELECT position_at(%s)", [moment]).fetchone() == (expected,)


def test_a_stream_of_more_facts_than_a_chunk_is_folded_whole(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(point_in_time, "CHUNK_ENTRIES", 2)
    for price in range(1, 8):
        client.simulate_put(A, json={"unit_price_cents": price})

    assert [
        client.simulate_get(A, params={"at_position": position}).json["unit_price_cents"] for position in range(1, 8)
    ] == list(range(1, 8))


def test_a_fold_ends_with_its_caller_s_patience(conn: Connection, client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(point_in_time, "CHUNK_ENTRIES", 2)
    for price in range(1, 8):
        client.simulate_put(A, json={"unit_price_cents": price})
    set_deadline(0)
    try:
        with pytest.raises(BusyError):
            as_of.fungible(conn, "A", 7)
    finally:
        set_deadline(float("inf"))
