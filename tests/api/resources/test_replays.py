"""A repeat with the same Idempotency-Key gets the bytes of the first answer, whatever has happened since."""

import json
import random
import uuid
from collections import Counter
from typing import Any

import pytest
from falcon import testing

from ledger.store.connection import Connection
from ledger.store.idempotency import scope_of

SKUS = ("A", "B €𝕬")
ITEMS = (("N", "1"), ("N", "2"))
Call = tuple[str, str, Any]


def send(client: testing.TestClient, call: Call, key: str) -> testing.Result:
    method, path, body = call
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    return client.simulate_request(method, path, body=None if body is None else json.dumps(body), headers=headers)


def drawn(chance: random.Random, made: list[str]) -> Call:
    sku, (of, sn) = chance.choice(SKUS), chance.choice(ITEMS)
    reservation = f"/api/reservations/{chance.choice(made) if made else uuid.uuid4()}"
    lines = {"lines": [{"sku": sku, "quantity": chance.randrange(1, 3)}]}
    cart = [{"sku": sku, "quantity": chance.randrange(1, 4)}, {"sku": of, "sn": sn}][: chance.randrange(1, 3)]
    ours = {"reservation_id": str(uuid.UUID(int=chance.getrandbits(128), version=4))} if chance.random() < 0.3 else {}
    calls: list[Call] = [
        ("POST", "/api/fungible", {"name": "new", "amount_in_stock": 1}),
        ("PUT", f"/api/fungible/{sku}", {"amount_in_stock": chance.randrange(5, 30), "name": f"n{chance.random()}"}),
        ("PUT", f"/api/fungible/{sku}", {}),
        ("POST", f"/api/fungible/{sku}/add/3", {"reason": "é"}),
        ("POST", f"/api/fungible/{sku}/remove/1", None),
        ("POST", f"/api/fungible/{sku}/reserve/2", {"owner": "ann", **ours}),
        ("PUT", f"/api/non-fungible/{of}/{sn}", {"price_cents": chance.randrange(9), "sold": chance.random() < 0.2}),
        ("PUT", f"/api/non-fungible/{of}/{sn}/reservation", ours),
        ("DELETE", f"/api/non-fungible/{of}/{sn}/reservation", None),
        ("POST", "/api/reservations", {"lines": cart, **ours}),
        ("POST", "/api/reservations", {"partial": True, "lines": [*cart, {"sku": SKUS[0], "quantity": 40}], **ours}),
        ("DELETE", reservation, None),
        ("POST", f"{reservation}/release", lines),
        ("POST", f"{reservation}/extend", {"ttl_seconds": 900}),
        ("POST", f"{reservation}/purchase", {"reference": "order"}),
        ("POST", f"{reservation}/return", lines),
        ("POST", "/api/batch", batch(sku, of, sn, "each")),
        ("POST", "/api/batch", batch(sku, of, sn, "all")),
    ]
    return chance.choice(calls)


def batch(sku: str, of: str, sn: str, mode: str) -> dict[str, Any]:
    commands = [
        {"command": "add", "sku": sku, "quantity": 2},
        {"command": "put", "sku": of, "sn": sn, "notes": "n"},
        {"command": "reserve", "sku": sku, "quantity": 1},
        {"command": "reserve", "lines": [{"sku": sku, "quantity": 1}]},
    ]
    return {"mode": mode, "commands": commands}


@pytest.mark.parametrize("seed", range(4))
def test_a_replay_answers_the_same_bytes_however_the_ledger_has_moved_on(client: testing.TestClient, seed: int):
    chance, made = random.Random(seed), []
    for sku in SKUS:
        client.simulate_put(f"/api/fungible/{sku}", json={"amount_in_stock": 20})
    for of, sn in ITEMS:
        client.simulate_put(f"/api/non-fungible/{of}/{sn}")
    first: dict[str, tuple[Call, testing.Result]] = {}
    for number in range(250):
        call = drawn(chance, made)
        answer = send(client, call, f"key-{number}")
        if answer.status_code in (200, 201):
            first[f"key-{number}"] = call, answer
            found = answer.json.get("reservation", answer.json).get("id")
            if found:
                made.append(found)

    for key, (call, answer) in chance.sample(list(first.items()), len(first)):
        again = send(client, call, key)
        assert (again.status_code, again.content) == (answer.status_code, replayed(call, answer)), (key, call)
        if call[1] != "/api/batch":
            assert again.headers["Idempotent-Replayed"] == "true", call
            kept = ("Ledger-Position", "ETag", "Location")
            assert {h: again.headers.get(h) for h in kept} == {h: answer.headers.get(h) for h in kept}
    kinds = Counter((method, path.split("/")[2], path.rpartition("/")[2]) for (method, path, _), _ in first.values())
    assert len(kinds) >= 8, kinds


def replayed(call: Call, answer: testing.Result) -> bytes:
    """What the repeat of a call is answered with: a batch says of each command that it is a replay."""
    if call[1] != "/api/batch":
        return answer.content
    results = answer.json["results"]
    marked = [each | {"replayed": True} if each["status"] < 400 else each for each in results]
    return json.dumps({"results": marked}, separators=(",", ":"), ensure_ascii=False).encode()


def test_another_request_under_the_same_key_is_refused_and_another_callers_is_not(client: testing.TestClient):
    send(client, ("PUT", "/api/fungible/A", {"amount_in_stock": 1}), "k")

    other = send(client, ("PUT", "/api/fungible/A", {"amount_in_stock": 2}), "k")

    assert (other.status_code, other.json["type"]) == (422, "/problems/idempotency-key-reused")
    assert scope_of("ann", "k") != scope_of("bob", "k")
    assert scope_of("a", "bc") != scope_of("ab", "c")


def test_a_key_takes_less_than_170_bytes(client: testing.TestClient, conn: Connection):
    """With its index; what PostgreSQL rounds up to pages is small beside so many."""
    client.simulate_put("/api/fungible/A", json={})
    for start in range(10):
        commands = [
            {"command": "add", "sku": "A", "quantity": 1, "idempotency_key": str(uuid.uuid4())} for _ in range(1_000)
        ]
        assert client.simulate_post("/api/batch", json={"commands": commands}).status_code == 200, start

    size = "SELECT pg_total_relation_size('idempotent_requests') / count(*) FROM idempotent_requests"
    (per_key,) = conn.execute(size).fetchone() or (0,)

    assert per_key < 170
