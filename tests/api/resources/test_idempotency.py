"""Idempotency-Key over HTTP: a repeat gets the first answer, whatever the write."""

from typing import Any

import pytest
from falcon.testing import Result, TestClient

from ledger.store import idempotency
from ledger.store.connection import BoundedConnection, Connection, connect

KEY = {"Idempotency-Key": "k-1"}
WRITES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("POST", "/api/fungible", {"amount_in_stock": 5}),
    ("PUT", "/api/fungible/A", {"amount_in_stock": 7}),
    ("POST", "/api/fungible/A/add/2", None),
    ("POST", "/api/fungible/A/remove/2", {"reason": "lost"}),
    ("POST", "/api/fungible/A/reserve/2", None),
    ("PUT", "/api/non-fungible/B/2", {"color": "Red"}),
    ("PUT", "/api/non-fungible/B/1/reservation", None),
    ("POST", "/api/reservations", {"lines": [{"sku": "A", "quantity": 1}]}),
    ("POST", "/api/batch", {"commands": [{"command": "add", "sku": "A", "quantity": 1}]}),
]


@pytest.fixture(autouse=True)
def _shop(client: TestClient) -> None:
    client.simulate_put("/api/fungible/A", json={"amount_in_stock": 10})
    client.simulate_put("/api/non-fungible/B/1")


def send(client: TestClient, write: tuple[str, str, dict[str, Any] | None], **headers: str) -> Result:
    method, path, body = write
    return client.simulate_request(method, path, json=body, headers=KEY | headers)


@pytest.mark.parametrize("write", WRITES, ids=[f"{method} {path}" for method, path, _ in WRITES])
def test_a_repeat_gets_the_first_answer_and_records_nothing(client: TestClient, write: Any):
    first = send(client, write)
    again = send(client, write)

    assert first.status_code in (200, 201)
    assert again.status_code == first.status_code
    if write[1] == "/api/batch":
        assert again.json == {"results": [each | {"replayed": True} for each in first.json["results"]]}
    else:
        assert again.content == first.content
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    for header in ("Ledger-Position", "ETag", "Location"):
        assert again.headers.get(header) == first.headers.get(header)
    assert client.simulate_get("/api/fungible").headers["Ledger-Position"] == first.headers["Ledger-Position"]


@pytest.mark.parametrize(
    ("write", "headers"),
    [
        (("POST", "/api/fungible/A/add/3", None), {}),
        (("POST", "/api/fungible/A/add/2", {"reason": "x"}), {}),
        (("POST", "/api/fungible/A/add/2", None), {"If-Match": "*"}),
        (("POST", "/api/fungible/B/add/2", None), {}),
    ],
)
def test_the_same_key_with_another_request_is_refused(client: TestClient, write: Any, headers: dict[str, str]):
    send(client, ("POST", "/api/fungible/A/add/2", None))

    answer = send(client, write, **headers)

    assert (answer.status_code, answer.json["type"]) == (422, "/problems/idempotency-key-reused")
    assert client.simulate_get("/api/fungible/A").json["amount_in_stock"] == 12


def test_a_refusal_is_not_kept(client: TestClient):
    write = ("POST", "/api/fungible/A/remove/11", None)
    assert send(client, write).status_code == 409
    client.simulate_post("/api/fungible/A/add/1")

    answer = send(client, write)

    assert (answer.status_code, answer.json["amount_in_stock"]) == (200, 0)
    assert "Idempotent-Replayed" not in answer.headers


def test_a_batch_with_the_same_key_and_other_commands_is_refused(client: TestClient):
    send(client, WRITES[-1])

    answer = send(client, ("POST", "/api/batch", {"commands": [{"command": "add", "sku": "A", "quantity": 2}]}))

    assert (answer.status_code, answer.json["type"]) == (422, "/problems/idempotency-key-reused")


def test_old_keys_are_forgotten_and_young_ones_kept(
    client: TestClient, conn: Connection, postgres_url: str, schema: str
):
    send(client, WRITES[2])
    client.simulate_post("/api/fungible/A/add/1", headers={"Idempotency-Key": "k-2"})
    earlier = "UPDATE idempotent_requests SET created_at = created_at - interval '8 days' WHERE scope = %s"
    conn.execute(earlier, [idempotency.scope_of("anonymous", "k-1")])

    with connect(postgres_url, schema) as cleaner:
        assert isinstance(cleaner, BoundedConnection)
        assert (idempotency.forget(cleaner, 7), idempotency.forget(cleaner, 7)) == (1, 0)

    kept = [row[0] for row in conn.execute("SELECT scope FROM idempotent_requests")]
    assert kept == [idempotency.scope_of("anonymous", "k-2")]
