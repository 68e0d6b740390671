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


@pytest.mark.parametrize("headers", [{}, NDJSON])
@pytest.mark.parametrize("more", [{}, {"wait_seconds": 30}, {"limit": 1}])
def test_whoever_has_read_more_than_there_is_is_told_so(
    client: TestClient, headers: dict[str, str], more: dict[str, int]
):
    """A log that was restored from a backup: to wait in silence would be to miss what comes now."""
    answer = client.simulate_get(EVENTS, params={"after": LOG_LENGTH + 1, **more}, headers=headers)

    assert (answer.status_code, answer.json["type"]) == (409, "/problems/ahead-of-log")
    assert (answer.json["after"], answer.json["last"]) == (LOG_LENGTH + 1, LOG_LENGTH)
    assert answer.headers["Ledger-Position"] == str(LOG_LENGTH)


def test_purchases_too_are_followed_from_within_the_log_alone(client: TestClient):
    answers = [client.simulate_get("/api/fulfilment-requests", params={"after": LOG_LENGTH + n}) for n in (0, 1)]

    assert [answer.status_code for answer in answers] == [200, 409]
    assert answers[1].json["type"] == "/problems/ahead-of-log"


def test_each_answer_names_the_digest_to_go_on_with(client: TestClient, conn: Connection):
    digests = dict(conn.execute("SELECT notification_id, encode(digest, 'hex') FROM stored_events").fetchall())
    after, digest = 0, "0" * 64
    while after < LOG_LENGTH:
        answer = client.simulate_get(EVENTS, params={"after": after, "digest": digest, "limit": 3})
        after, digest = answer.json["next_after"], answer.json["next_digest"]
        assert digest == digests[after]

    last = client.simulate_get(EVENTS, params={"after": after, "digest": digest.upper()})
    assert last.json == {"items": [], "next_after": LOG_LENGTH, "next_digest": digest}
    whole = client.simulate_get(EVENTS, headers=NDJSON)
    part = client.simulate_get(EVENTS, headers=NDJSON, params={"limit": 2})
    assert (whole.headers["Next-Digest"], part.headers["Next-Digest"]) == (digest, digests[2])


@pytest.mark.parametrize("headers", [{}, NDJSON])
def test_another_history_is_noticed_even_where_it_is_as_long(client: TestClient, headers: dict[str, str]):
    other = client.simulate_get(EVENTS, params={"after": 3, "digest": "ab" * 32}, headers=headers)

    assert (other.status_code, other.json["type"]) == (409, "/problems/other-history")
    assert other.json["after"] == 3
    assert len(other.json["digest"]) == 64


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

    assert (answer.json["items"], answer.json["next_after"]) == ([], LOG_LENGTH)


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
        ("digest=ab", "digest"),
        (f"digest={'g' * 64}", "digest"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(client: TestClient, query: str, member: str):
    answer = client.simulate_get(EVENTS, query_string=query)

    assert (answer.status_code, list(answer.json["errors"])) == (422, [member])
