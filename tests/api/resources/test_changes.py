"""PUT /api/reservations/<id>: carts that change, and a part that is bought, over HTTP."""

import time
from threading import Barrier, Thread
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from tests.api.resources.test_reservations import CARTS, GONE, _shop, item, make, refusal, stock  # noqa: F401


def change(client: TestClient, cart: str, *lines: dict[str, Any], **more: Any) -> Result:
    return client.simulate_put(f"{CARTS}/{cart}", json={"lines": list(lines), **more.pop("members", {})}, **more)


def held(cart: dict[str, Any]) -> dict[str, int]:
    """What of each line is neither released nor purchased."""
    return {
        line["sku"] + line.get("sn", ""): line.get("quantity", 1) - line["released"] - line["purchased"]
        for line in cart["lines"]
    }


def quantity(sku: str, number: int) -> dict[str, Any]:
    return {"sku": sku, "quantity": number}


def test_a_cart_grows_shrinks_and_swaps_its_items(client: TestClient):
    cart = make(client).json

    changed = change(client, cart["id"], quantity("A", 5), {"sku": "B", "sn": "2"})

    assert changed.status_code == 200
    assert held(changed.json) == {"A": 5, "B1": 0, "B2": 1}
    assert (stock(client), item(client, "1"), item(client, "2")) == ((10, 5, 5), (False, False), (True, False))
    assert changed.json["expires_at"] == cart["expires_at"]
    assert held(change(client, cart["id"], quantity("A", 1), {"sku": "B", "sn": "1"}).json) == {
        "A": 1,
        "B1": 1,
        "B2": 0,
    }
    assert client.simulate_get(f"{CARTS}/{cart['id']}").json["state"] == "open"


def test_its_own_hold_is_no_obstacle_and_nobody_elses_is_taken(client: TestClient):
    cart = make(client, [quantity("A", 6)]).json
    make(client, [quantity("A", 3)])

    assert change(client, cart["id"], quantity("A", 7)).status_code == 200
    short = change(client, cart["id"], quantity("A", 8))

    assert refusal(short) == (409, "insufficient-stock")
    (line,) = short.json["shortages"]
    assert (line["requested"], line["available"], line["held_by_others"]) == (8, 7, 3)
    assert stock(client) == (10, 10, 0)


def test_the_same_lines_again_write_nothing(client: TestClient):
    made = make(client)

    again = change(client, made.json["id"], quantity("A", 3), {"sku": "B", "sn": "1"})

    assert again.json == made.json
    for header in ("ETag", "Ledger-Position"):
        assert again.headers[header] == made.headers[header]


def test_what_is_over_is_not_changed(client: TestClient):
    cart = make(client).json
    client.simulate_delete(f"{CARTS}/{cart['id']}")

    assert refusal(change(client, cart["id"], quantity("A", 1))) == (409, "reservation-ended")
    assert refusal(change(client, GONE, quantity("A", 1))) == (404, "unknown-reservation")


def test_bad_lines_are_named(client: TestClient):
    cart = make(client).json

    assert refusal(change(client, cart["id"])) == (422, "invalid")
    assert refusal(change(client, cart["id"], quantity("A", 0))) == (422, "invalid")
    assert refusal(change(client, cart["id"], quantity("Z", 1))) == (404, "unknown-product")


def test_a_change_is_for_the_version_that_was_seen(client: TestClient):
    made = make(client)
    cart, seen = made.json["id"], made.headers["ETag"]
    known = {"If-None-Match": seen}
    assert client.simulate_get(f"{CARTS}/{cart}", headers=known).status_code == 304

    first = change(client, cart, quantity("A", 4), headers={"If-Match": seen})
    second = change(client, cart, quantity("A", 5), headers={"If-Match": seen})

    assert first.status_code == 200
    assert refusal(second) == (412, "precondition-failed")
    assert first.headers["ETag"] != seen
    assert client.simulate_get(f"{CARTS}/{cart}", headers=known).headers["ETag"] == first.headers["ETag"]
    for call in ("release", "extend", "purchase"):
        answer = client.simulate_post(
            f"{CARTS}/{cart}/{call}",
            json={"lines": [quantity("A", 1)]} if call == "release" else {},
            headers={"If-Match": seen},
        )
        assert refusal(answer) == (412, "precondition-failed")


def test_a_repeat_with_its_key_is_told_the_same(client: TestClient):
    cart = make(client).json["id"]
    first = change(client, cart, quantity("A", 4), headers={"Idempotency-Key": "k"})
    change(client, cart, quantity("A", 1))

    again = change(client, cart, quantity("A", 4), headers={"Idempotency-Key": "k"})

    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.content, again.headers["ETag"]) == (first.content, first.headers["ETag"])
    assert stock(client)[1] == 1


def test_a_part_is_bought_and_the_rest_stays_held(client: TestClient):
    cart = make(client).json["id"]

    bought = client.simulate_post(f"{CARTS}/{cart}/purchase", json={"lines": [quantity("A", 2)]})

    assert (bought.json["state"], held(bought.json)) == ("open", {"A": 1, "B1": 1})
    assert stock(client) == (8, 1, 7)
    too_much = client.simulate_post(f"{CARTS}/{cart}/purchase", json={"lines": [quantity("A", 2)]})
    assert refusal(too_much) == (409, "not-held")
    rest = client.simulate_post(f"{CARTS}/{cart}/purchase")
    assert (rest.json["state"], stock(client), item(client)) == ("purchased", (7, 0, 7), (False, True))
    requests = client.simulate_get("/api/fulfilment-requests").json["items"]
    assert [request["lines"] for request in requests] == [
        [quantity("A", 2)],
        [quantity("A", 1), {"sku": "B", "sn": "1"}],
    ]


def test_batches_change_and_buy_parts(client: TestClient):
    cart = make(client).json["id"]
    commands = [
        {"command": "change", "reservation_id": cart, "lines": [quantity("A", 6)]},
        {"command": "purchase", "reservation_id": cart, "lines": [quantity("A", 1)]},
        {"command": "change", "reservation_id": cart, "lines": [quantity("A", 2)], "ttl_seconds": 60},
    ]

    answer = client.simulate_post("/api/batch", json={"mode": "all", "commands": commands}).json

    assert [result["status"] for result in answer["results"]] == [200, 200, 200]
    assert stock(client) == (9, 2, 7)


def test_as_of_knows_what_a_cart_held_before_it_grew(client: TestClient):
    made = make(client, [quantity("A", 3)])
    position, cart = made.headers["Ledger-Position"], made.json["id"]
    change(client, cart, quantity("A", 9))

    past = client.simulate_get(f"{CARTS}/{cart}", params={"at_position": position}).json

    assert held(past) == {"A": 3}


def test_carts_that_grow_at_once_never_hold_more_than_there_is(client: TestClient):
    """32 carts, each by one unit at a time, on 64 units."""
    client.simulate_put("/api/fungible/HOT", json={"amount_in_stock": 64})
    carts = [make(client, [quantity("HOT", 1)]).json["id"] for _ in range(32)]
    granted, start = [1] * len(carts), Barrier(len(carts))

    def grow(number: int) -> None:
        start.wait()
        while granted[number] < 6:
            answer = change(client, carts[number], quantity("HOT", granted[number] + 1))
            if answer.status_code != 200:
                assert refusal(answer) == (409, "insufficient-stock")
                return
            granted[number] += 1

    threads = [Thread(target=grow, args=(number,)) for number in range(len(carts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(granted) == 64
    assert client.simulate_get("/api/fungible/HOT").json["reserved_quantity"] == 64


def rehold(client: TestClient, cart: str, *lines: dict[str, Any]) -> Result:
    more = {"lines": list(lines)} if lines else {}
    return client.simulate_post(f"{CARTS}/{cart}/purchase", json={"rehold": True, **more})


@pytest.fixture
def expired(client: TestClient) -> str:
    """A cart of 3 A and the item B/1, over by the clock, though nobody has written that down."""
    cart = make(client, ttl_seconds=1).json["id"]
    time.sleep(1.05)
    return cart


def test_an_expired_cart_is_held_again_and_bought(client: TestClient, expired: str):
    assert refusal(client.simulate_post(f"{CARTS}/{expired}/purchase")) == (409, "reservation-ended")

    bought = rehold(client, expired)

    assert (bought.status_code, bought.json["state"]) == (200, "purchased")
    assert {line["sku"]: line["purchased"] for line in bought.json["lines"]} == {"A": 3, "B": 1}
    assert (stock(client), item(client)) == ((7, 0, 7), (False, True))
    assert refusal(rehold(client, expired)) == (409, "reservation-ended")
    (request,) = client.simulate_get("/api/fulfilment-requests").json["items"]
    assert request["lines"] == [quantity("A", 3), {"sku": "B", "sn": "1"}]


def test_an_expired_cart_that_is_not_all_there_any_more_stays_as_it_is(client: TestClient, expired: str):
    make(client, [quantity("A", 8)])

    short = rehold(client, expired)

    assert refusal(short) == (409, "insufficient-stock")
    assert [(line["sku"], line["requested"], line["available"]) for line in short.json["shortages"]] == [("A", 3, 2)]
    assert (stock(client), item(client)) == ((10, 8, 2), (False, False))


def test_what_others_hold_beyond_their_time_is_no_obstacle(client: TestClient, expired: str):
    make(client, [quantity("A", 9), {"sku": "B", "sn": "1"}], ttl_seconds=1)
    time.sleep(1.05)

    bought = rehold(client, expired, quantity("A", 2))

    assert (bought.json["state"], held(bought.json)) == ("open", {"A": 1, "B1": 1})
    assert (stock(client), item(client)) == ((8, 1, 7), (True, False))


def test_an_expired_item_that_another_held_beyond_its_time_is_no_obstacle(client: TestClient):
    first = make(client, [{"sku": "B", "sn": "1"}], ttl_seconds=1).json["id"]
    time.sleep(1.05)
    make(client, [{"sku": "B", "sn": "1"}], ttl_seconds=1)
    time.sleep(1.05)

    assert rehold(client, first).json["state"] == "purchased"


def test_a_batch_buys_what_expired(client: TestClient, expired: str):
    commands = [{"command": "purchase", "reservation_id": expired, "rehold": True}]

    (result,) = client.simulate_post("/api/batch", json={"mode": "all", "commands": commands}).json["results"]

    assert (result["status"], result["body"]["state"]) == (200, "purchased")


def test_as_of_knows_a_cart_before_it_was_held_again(client: TestClient, expired: str):
    make(client, [quantity("A", 1)])
    position = client.simulate_put("/api/fungible/A", json={}).headers["Ledger-Position"]
    bought = rehold(client, expired)

    def at(position: str) -> tuple[str, int]:
        shown = client.simulate_get(f"{CARTS}/{expired}", params={"at_position": position}).json
        return shown["state"], sum(line["purchased"] for line in shown["lines"])

    assert at(position)[1] == 0
    assert at(bought.headers["Ledger-Position"]) == ("purchased", 4)
