"""POST /api/batch: each command for itself, or all or nothing."""

from typing import Any

from falcon.testing import Result, TestClient


def send(client: TestClient, *commands: dict[str, Any], **more: Any) -> Result:
    return client.simulate_post("/api/batch", json={"commands": list(commands), **more})


def add(sku: str, quantity: int, **more: Any) -> dict[str, Any]:
    return {"command": "add", "sku": sku, "quantity": quantity, **more}


def test_every_command_gets_its_own_result_in_order(client: TestClient):
    answer = send(
        client,
        {"command": "put", "sku": "A", "amount_in_stock": 5, "name": "Pen"},
        add("A", 5, reason="found"),
        {"command": "reserve", "sku": "A", "quantity": 50},
        {"command": "put", "sku": "B", "sn": "1", "color": "Red"},
        {"command": "reserve", "sku": "B", "sn": "1"},
        {"command": "release", "sku": "B", "sn": "1"},
        {"command": "reserve", "lines": [{"sku": "A", "quantity": 2}, {"sku": "B", "sn": "1"}]},
        {"command": "remove", "sku": "A", "quantity": 8},
    )

    results = answer.json["results"]
    assert (answer.status_code, [result["status"] for result in results]) == (
        200,
        [200, 200, 409, 200, 200, 200, 201, 200],
    )
    assert results[2]["body"]["type"] == "/problems/insufficient-stock"
    assert results[7]["body"] == client.simulate_get("/api/fungible/A").json
    assert (results[7]["body"]["amount_in_stock"], results[7]["body"]["available_quantity"]) == (2, 0)


def test_a_cart_lives_its_life_in_batches(client: TestClient):
    client.simulate_put("/api/fungible/A", json={"amount_in_stock": 5})
    cart = send(client, {"command": "reserve", "lines": [{"sku": "A", "quantity": 3}]}).json["results"][0]["body"]

    named = {"reservation_id": cart["id"]}
    answer = send(
        client,
        {"command": "extend", "ttl_seconds": 60, **named},
        {"command": "release", "lines": [{"sku": "A", "quantity": 1}], **named},
        {"command": "purchase", **named},
        {"command": "return", "lines": [{"sku": "A", "quantity": 1}], **named},
        {"command": "release", **named},
    )

    states = [(result["status"], result["body"].get("state")) for result in answer.json["results"]]
    assert states == [(200, "open"), (200, "open"), (200, "purchased"), (200, "purchased"), (409, "purchased")]
    assert client.simulate_get("/api/fungible/A").json["amount_in_stock"] == 4


def test_in_mode_all_one_refusal_refuses_all(client: TestClient):
    client.simulate_put("/api/fungible/A", json={"amount_in_stock": 5})
    position = client.simulate_get("/api/fungible/A").headers["Ledger-Position"]

    refused = send(client, add("A", 1), {"command": "remove", "sku": "A", "quantity": 9}, add("A", 1), mode="all")
    done = send(client, add("A", 1), {"command": "remove", "sku": "A", "quantity": 6}, mode="all")

    assert (refused.status_code, refused.json["type"], refused.json["index"]) == (409, "/problems/batch-refused", 1)
    assert refused.json["problem"]["type"] == "/problems/insufficient-stock"
    assert refused.headers["Ledger-Position"] == position
    assert [result["body"]["amount_in_stock"] for result in done.json["results"]] == [6, 0]


def test_an_invalid_command_spoils_only_itself_or_all(client: TestClient):
    client.simulate_put("/api/fungible/A")
    commands = [add("A", 1), add("A", 0), {"command": "fly"}, {"command": "put", "sku": "A", "sold": True}]

    each, together = send(client, *commands), send(client, *commands, mode="all")

    assert [result["status"] for result in each.json["results"]] == [200, 422, 422, 422]
    assert (together.status_code, together.json["type"]) == (422, "/problems/invalid")
    assert set(together.json["errors"]) == {"commands[1].command", "commands[2].command", "commands[3].sold"}
    assert client.simulate_get("/api/fungible/A").json["amount_in_stock"] == 1


def test_commands_have_keys_of_their_own(client: TestClient):
    client.simulate_put("/api/fungible/A")

    first = send(client, add("A", 1, idempotency_key="x"), add("A", 2))
    again = send(client, add("A", 1, idempotency_key="x"), add("A", 2))

    assert [r["body"]["amount_in_stock"] for r in first.json["results"]] == [1, 3]
    assert [r["body"]["amount_in_stock"] for r in again.json["results"]] == [1, 5]


def test_a_batch_has_between_one_and_a_thousand_commands(client: TestClient):
    client.simulate_put("/api/fungible/A")

    assert send(client).status_code == 422
    assert send(client, *[add("A", 1)] * 1001).status_code == 422
    assert send(client, *[add("A", 1)] * 1000).json["results"][-1]["body"]["amount_in_stock"] == 1000
