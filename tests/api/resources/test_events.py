"""/api/events: the whole log, in order and without gaps, in pages and as a stream, and waiting for more."""

import json
import threading
import time
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from api.resources import events
from ledger.store import point_in_time
from ledger.store.connection import Connection
from ledger.store.entry_lines import to_line
from ledger.store.log import read_stored

EVENTS = "/api/events"
NDJSON = {"Accept": "application/x-ndjson"}
LOG_LENGTH = 8


@pytest.fixture(autouse=True)
def _shop(client: TestClient) -> None:
    client.simulate_put("/api/fungible/A", json={"amount_in_stock": 10})
    for _ in range(6):
        client.simulate_post("/api/fungible/A/add/1")


def lines(answer: Result) -> list[Any]:
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def test_the_log_comes_in_order_and_without_gaps(client: TestClient, conn: Connection):
    seen: list[Any] = []
    after = 0
    while True:
        answer = client.simulate_get(EVENTS, params={"after": after, "limit": 3})
        assert answer.headers["Ledger-Position"] == str(LOG_LENGTH)
        if not answer.json["items"]:
            assert answer.json["next_after"] == after
            break
        seen += answer.json["items"]
        after = answer.json["next_after"]

    assert seen == [json.loads(to_line(entry)) for entry in read_stored(conn, 0)]
    assert [item["position"] for item in seen] == list(range(1, LOG_LENGTH + 1))


def test_lines_are_the_entries_byte_for_byte(client: TestClient, conn: Connection):
    expected = b"".join(to_line(entry) + b"\n" for entry in read_stored(conn, 0))

    assert client.simulate_get(EVENTS, headers=NDJSON).content == expected


def test_a_stream_is_read_in_chunks_and_ends_at_the_head(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "CHUNK_ENTRIES", 3)

    answer = client.simulate_get(EVENTS, headers=NDJSON, params={"after": 1})

    assert [line["position"] for line in lines(answer)] == list(range(2, LOG_LENGTH + 1))
    assert answer.headers["Ledger-Position"] == str(LOG_LENGTH)


@pytest.mark.parametrize("headers", [{}, NDJSON])
def test_what_is_recorded_meanwhile_is_left_to_the_next_answer(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
):
    monkeypatch.setattr(point_in_time, "head", lambda _: 5)  # as it was before the last three came

    answer = client.simulate_get(EVENTS, headers=headers)

    assert (answer.headers["Ledger-Position"], answer.text.count('"position":')) == ("5", 5)


def test_a_limit_holds_for_lines_too(client: TestClient):
    answer = client.simulate_get(EVENTS, headers=NDJSON, params={"after": 2, "limit": 4})

    assert [line["position"] for line in lines(answer)] == [3, 4, 5, 6]


def test_beyond_the_head_there_is_nothing_yet(client: TestClient):
    answer = client.simulate_get(EVENTS, params={"after": 1000})

    assert answer.json == {"items": [], "next_after": 1000}
    assert lines(client.simulate_get(EVENTS, headers=NDJSON, params={"after": 1000})) == []


def test_a_follower_is_answered_at_once_where_there_is_something(client: TestClient):
    answer = client.simulate_get(EVENTS, params={"after": LOG_LENGTH - 1, "wait_seconds": 30})

    assert [item["position"] for item in answer.json["items"]] == [LOG_LENGTH]


@pytest.mark.parametrize("headers", [{}, NDJSON])
def test_a_follower_is_told_as_soon_as_something_happens(client: TestClient, headers: dict[str, str]):
    answers: list[Result] = []

    def follow() -> None:
        answers.append(client.simulate_get(EVENTS, params={"after": LOG_LENGTH, "wait_seconds": 30}, headers=headers))

    follower = threading.Thread(target=follow)
    follower.start()
    until = time.monotonic() + 20
    while "arrivals" not in {thread.name for thread in threading.enumerate()}:  # whom a waiter sends to look
        assert time.monotonic() < until, "nobody waits"
    client.simulate_post("/api/fungible/A/add/1")
    follower.join(20)

    (answer,) = answers
    found = answer.json["items"] if not headers else lines(answer)
    assert [item["position"] for item in found] == [LOG_LENGTH + 1]


def test_a_follower_is_let_go_when_the_time_is_over(client: TestClient):
    answer = client.simulate_get(EVENTS, params={"after": LOG_LENGTH, "wait_seconds": 1})

    assert answer.json == {"items": [], "next_after": LOG_LENGTH}


def test_the_log_has_two_forms(client: TestClient):
    assert client.simulate_get(EVENTS, headers={"Accept": "text/csv"}).status_code == 406
    assert client.simulate_get(EVENTS, headers={"Accept": "*/*"}).headers["Content-Type"] == "application/json"
    assert client.simulate_get(EVENTS, headers=NDJSON).headers["Vary"] == "Accept"


def test_more_streams_than_there_is_room_for_are_turned_away(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    """One that has ended makes room."""
    for _ in range(2 * events.MAX_STREAMS):
        assert client.simulate_get(EVENTS, headers=NDJSON).status_code == 200

    reading: list[events.LineStream] = []
    monkeypatch.setattr(events.LineStream, "close", lambda stream: reading.append(stream))
    busy = [client.simulate_get(EVENTS, headers=NDJSON) for _ in range(events.MAX_STREAMS + 1)][-1]

    assert (busy.status_code, busy.json["type"]) == (503, "/problems/busy")
    assert client.simulate_get(EVENTS).status_code == 200


@pytest.mark.parametrize(
    ("query", "member"),
    [
        ("after=-1", "after"),
        ("after=x", "after"),
        ("limit=0", "limit"),
        ("wait_seconds=31", "wait_seconds"),
        ("wait_seconds=0.5", "wait_seconds"),
        ("since=1", "since"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(client: TestClient, query: str, member: str):
    answer = client.simulate_get(EVENTS, query_string=query)

    assert (answer.status_code, list(answer.json["errors"])) == (422, [member])
