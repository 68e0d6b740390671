"""/api/reservations: carts over HTTP, and the ways in which they end."""

import time
import uuid
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from ledger.engine.ledger import Ledger
from ledger.reservations.commands import ExpireReservation
from ledger.store.connection import Connection

CARTS = "/api/reservations"
LINES = [{"sku": "A", "quantity": 3}, {"sku": "B", "sn": "1"}]
GONE = str(uuid.UUID(int=9))


@pytest.fixture(autouse=True)
def _shop(client: TestClient) -> None:
    """Ten of A, and items 1 and 2 of B."""
    client.simulate_put("/api/fungible/A", json={"amount_in_stock": 10})
    client.simulate_put("/api/non-fungible/B/1")
    client.simulate_put("/api/non-fungible/B/2")


def make(client: TestClient, lines: list[dict[str, Any]] = LINES, **more: Any) -> Result:
    return client.simulate_post(CARTS, json={"lines": lines, **more})


def stock(client: TestClient) -> tuple[int, int, int]:
    product = client.simulate_get("/api/fungible/A").json
    return product["amount_in_stock"], product["reserved_quantity"], product["available_quantity"]


def item(client: TestClient, sn: str = "1") -> tuple[bool, bool]:
    """(reserved, sold)"""
    found = client.simulate_get(f"/api/non-fungible/B/{sn}").json
    return found["reserved"] is not None, found["sold"]


def refusal(answer: Result) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status_code, answer.json["type"].removeprefix("/problems/")


def test_a_cart_holds_quantities_and_items_under_one_id(client: TestClient):
    made = make(client, owner="ann", reference="order 7")

    cart = made.json
    assert (made.status_code, made.headers["Location"]) == (201, f"{CARTS}/{cart['id']}")
    assert (cart["state"], cart["owner"], cart["reference"], cart["ended_at"]) == ("open", "ann", "order 7", None)
    assert cart["lines"] == [
        {"sku": "A", "quantity": 3, "released": 0, "purchased": 0},
        {"sku": "B", "sn": "1", "released": 0, "purchased": 0},
    ]
    assert (stock(client), item(client)) == ((10, 3, 7), (True, False))
    assert client.simulate_get(f"{CARTS}/{cart['id']}").json == cart


def test_the_same_sku_twice_is_summed(client: TestClient):
    cart = make(client, [{"sku": "A", "quantity": 3}, {"sku": "A", "quantity": 4}]).json

    assert cart["lines"] == [{"sku": "A", "quantity": 7, "released": 0, "purchased": 0}]


def test_a_short_cart_names_every_shortage_and_holds_nothing(client: TestClient):
    held = make(client).json
    position = client.simulate_get("/api/fungible/A").headers["Ledger-Position"]

    short = make(client, [{"sku": "A", "quantity": 8}, {"sku": "B", "sn": "1"}, {"sku": "B", "sn": "2"}])

    assert refusal(short) == (409, "insufficient-stock")
    ends = {"held_by_others": 3, "next_release_at": held["expires_at"]}
    assert short.json["shortages"] == [
        {"sku": "A", "requested": 8, "available": 7, **ends},
        {"sku": "B", "sn": "1", "requested": 1, "available": 0, **ends, "held_by_others": 1},
    ]
    assert short.headers["Ledger-Position"] == position
    assert (stock(client), item(client, "2")) == ((10, 3, 7), (False, False))


def test_a_partial_cart_takes_what_there_is_and_says_what_is_missing(client: TestClient):
    made = make(client, [{"sku": "A", "quantity": 12}, {"sku": "B", "sn": "1"}], partial=True)

    assert made.status_code == 201
    assert [line.get("quantity") for line in made.json["lines"]] == [10, None]
    shortage = {"sku": "A", "requested": 12, "available": 10, "held_by_others": 0, "next_release_at": None}
    assert made.json["missing"] == [shortage]
    assert refusal(make(client, [{"sku": "A", "quantity": 1}], partial=True)) == (409, "insufficient-stock")


def test_the_callers_id_with_the_same_content_answers_the_same(client: TestClient):
    chosen = str(uuid.UUID(int=5))
    first = make(client, reservation_id=chosen)

    again, other = make(client, reservation_id=chosen), make(client, LINES[:1], reservation_id=chosen)

    assert (first.json["id"], again.status_code, again.json) == (chosen, 201, first.json)
    assert refusal(other) == (409, "reservation-id-taken")
    assert stock(client) == (10, 3, 7)


def test_repeating_a_cart_that_has_ended_does_not_look_like_holding_it(client: TestClient):
    chosen = str(uuid.UUID(int=5))
    make(client, reservation_id=chosen)
    client.simulate_delete(f"{CARTS}/{chosen}")

    assert refusal(make(client, reservation_id=chosen)) == (409, "reservation-ended")


def test_the_single_call_makes_the_same_kind_of_reservation(client: TestClient):
    made = client.simulate_post("/api/fungible/A/reserve/2", json={"owner": "ann"}).json["reservation"]

    assert client.simulate_get(f"{CARTS}/{made['id']}").json == made
    assert client.simulate_post(f"{CARTS}/{made['id']}/purchase").json["state"] == "purchased"
    assert stock(client) == (8, 0, 8)


def test_a_purchase_empties_the_shelf_and_asks_for_fulfilment(client: TestClient):
    cart = make(client, owner="ann", reference="order 7").json

    bought = client.simulate_post(f"{CARTS}/{cart['id']}/purchase", json={"reason": "paid"})

    assert (bought.status_code, bought.json["state"]) == (200, "purchased")
    assert [line["purchased"] for line in bought.json["lines"]] == [3, 1]
    assert (stock(client), item(client)) == ((7, 0, 7), (False, True))
    (request,) = client.simulate_get("/api/fulfilment-requests").json["items"]
    assert (request["reservation_id"], request["owner"], request["reference"]) == (cart["id"], "ann", "order 7")
    assert request["lines"] == [{"sku": "A", "quantity": 3}, {"sku": "B", "sn": "1"}]
    for call in ("purchase", "extend"):
        assert refusal(client.simulate_post(f"{CARTS}/{cart['id']}/{call}")) == (409, "reservation-ended")
    assert refusal(client.simulate_delete(f"{CARTS}/{cart['id']}")) == (409, "reservation-ended")


def test_fulfilment_requests_are_followed_in_order(client: TestClient):
    for _ in range(3):
        cart = make(client, [{"sku": "A", "quantity": 1}]).json
        client.simulate_post(f"{CARTS}/{cart['id']}/purchase")
    everything = client.simulate_get("/api/fulfilment-requests").json

    first = client.simulate_get("/api/fulfilment-requests", params={"limit": 2}).json
    rest = client.simulate_get("/api/fulfilment-requests", params={"cursor": first["next_cursor"]}).json
    followed = client.simulate_get("/api/fulfilment-requests", params={"after": first["items"][0]["position"]}).json

    assert first["items"] + rest["items"] == everything["items"]
    assert (rest["next_cursor"], followed["items"]) == (None, everything["items"][1:])
    positions = [request["position"] for request in everything["items"]]
    assert positions == sorted(set(positions))


def test_releasing_gives_everything_back_and_may_be_repeated(client: TestClient):
    cart = make(client).json

    first, again = (client.simulate_delete(f"{CARTS}/{cart['id']}") for _ in range(2))

    assert (first.status_code, first.json["state"], again.status_code) == (200, "released", 200)
    assert again.json == first.json
    assert (stock(client), item(client)) == ((10, 0, 10), (False, False))


def test_part_of_a_cart_can_be_released(client: TestClient):
    cart = make(client).json
    path = f"{CARTS}/{cart['id']}/release"

    left = client.simulate_post(path, json={"lines": [{"sku": "A", "quantity": 1}, {"sku": "B", "sn": "1"}]})
    too_much = client.simulate_post(path, json={"lines": [{"sku": "A", "quantity": 3}]})

    assert (left.json["state"], [line["released"] for line in left.json["lines"]]) == ("open", [1, 1])
    assert refusal(too_much) == (409, "not-held")
    assert (stock(client), item(client)) == ((10, 2, 8), (False, False))


def test_extending_counts_from_now(client: TestClient):
    cart = make(client, ttl_seconds=60).json

    longer = client.simulate_post(f"{CARTS}/{cart['id']}/extend", json={"ttl_seconds": 7200}).json

    assert longer["expires_at"] > cart["expires_at"]
    assert longer["created_at"] == cart["created_at"]


def test_purchased_goods_come_back_once(client: TestClient):
    cart = make(client).json
    client.simulate_post(f"{CARTS}/{cart['id']}/purchase")
    path, lines = f"{CARTS}/{cart['id']}/return", [{"sku": "A", "quantity": 2}, {"sku": "B", "sn": "1"}]

    back, again = client.simulate_post(path, json={"lines": lines}), client.simulate_post(path, json={"lines": lines})

    assert (back.status_code, [line["returned"] for line in back.json["lines"]]) == (200, [2, 1])
    assert refusal(again) == (409, "not-held")
    assert (stock(client), item(client)) == ((9, 0, 9), (False, False))


def test_over_means_over_though_nobody_has_written_it_down(client: TestClient):
    """No expiry process runs here."""
    cart = make(client, [{"sku": "A", "quantity": 10}], ttl_seconds=1).json
    assert refusal(client.simulate_post("/api/fungible/A/reserve/1")) == (409, "insufficient-stock")
    time.sleep(1.05)

    shown = client.simulate_get(f"{CARTS}/{cart['id']}").json
    refused = [client.simulate_post(f"{CARTS}/{cart['id']}/{call}") for call in ("purchase", "extend")]

    assert (shown["state"], shown["ended_at"]) == ("expired", cart["expires_at"])
    assert [refusal(each) for each in refused] == [(409, "reservation-ended")] * 2
    assert client.simulate_post("/api/fungible/A/reserve/10").status_code == 200
    assert client.simulate_delete(f"{CARTS}/{cart['id']}").json["state"] == "expired"


def test_a_reserve_that_would_be_short_first_releases_what_is_overdue(client: TestClient, conn: Connection):
    for _ in range(3):
        make(client, [{"sku": "A", "quantity": 3}], ttl_seconds=1)
    time.sleep(1.05)

    assert client.simulate_post("/api/fungible/A/reserve/10").status_code == 200

    topics = [row[0] for row in conn.execute("SELECT topic FROM stored_events ORDER BY notification_id")]
    assert topics[-4:] == ["StockReleased.v1"] * 3 + ["StockReserved.v1"]


def test_lists_by_state_owner_and_sku(client: TestClient):
    ann, bob = make(client, LINES[:1], owner="ann").json, make(client, LINES[1:], owner="bob").json
    client.simulate_delete(f"{CARTS}/{bob['id']}")

    def ids(**wanted: str) -> list[str]:
        return [cart["id"] for cart in client.simulate_get(CARTS, params=wanted).json["items"]]

    assert ids() == [ann["id"], bob["id"]]
    assert (ids(state="open"), ids(state="released"), ids(state="expired")) == ([ann["id"]], [bob["id"]], [])
    assert (ids(owner="ann"), ids(sku="B"), ids(owner="ann", sku="B")) == ([ann["id"]], [bob["id"]], [])


@pytest.mark.parametrize(
    ("body", "member"),
    [
        ({}, "lines"),
        ({"lines": []}, "lines"),
        ({"lines": [{"sku": "A"}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "A", "quantity": 0}]}, "lines"),
        ({"lines": [{"sku": "A", "quantity": 2, "sn": "1"}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "a/b", "quantity": 1}]}, "lines[0].sku"),
        ({"lines": LINES, "ttl_seconds": 0}, "ttl_seconds"),
        ({"lines": LINES, "reservation_id": "seven"}, "reservation_id"),
        ({"lines": LINES, "color": "Red"}, "color"),
    ],
)
def test_a_bad_cart_is_refused_with_its_bad_members(client: TestClient, body: dict[str, Any], member: str):
    answer = client.simulate_post(CARTS, json=body)

    assert refusal(answer) == (422, "invalid")
    assert member in answer.json["errors"]
    assert stock(client) == (10, 0, 10)


@pytest.mark.parametrize("call", ["", "/purchase", "/extend", "/release", "/return"])
def test_an_unknown_reservation(client: TestClient, call: str):
    body = {"lines": LINES} if call in ("/release", "/return") else None

    answer = client.simulate_request("POST" if call else "GET", f"{CARTS}/{GONE}{call}", json=body)

    assert refusal(answer) == (404, "unknown-reservation")


def test_a_cart_of_unknown_goods_is_refused(client: TestClient):
    assert refusal(make(client, [{"sku": "Z", "quantity": 1}])) == (404, "unknown-product")
    assert refusal(make(client, [{"sku": "B", "sn": "9"}])) == (404, "unknown-item")
    assert refusal(make(client, [{"sku": "B", "quantity": 1}])) == (409, "other-kind")


def test_a_partial_cart_takes_what_holds_that_are_over_had(client: TestClient, conn: Connection):
    make(client, [{"sku": "A", "quantity": 8}])
    conn.execute("UPDATE reservations SET expires_at = clock_timestamp()")
    conn.execute("UPDATE reservation_lines SET expires_at = clock_timestamp()")

    made = make(client, [{"sku": "A", "quantity": 10}], partial=True)

    assert (made.status_code, made.json["lines"][0]["quantity"]) == (201, 10)


def test_a_cart_of_which_part_was_bought_shows_as_purchased_once_the_rest_is_over(client: TestClient, ledger: Ledger):
    cart = make(client, ttl_seconds=1).json
    client.simulate_put("/api/non-fungible/B/1", json={"sold": True})
    assert client.simulate_get(f"{CARTS}/{cart['id']}").json["state"] == "open"
    time.sleep(1.05)

    def shown() -> tuple[str, list[str], list[str]]:
        listed = {
            state: [each["id"] for each in client.simulate_get(f"{CARTS}?state={state}").json["items"]]
            for state in ("purchased", "expired")
        }
        state = client.simulate_get(f"{CARTS}/{cart['id']}").json["state"]
        return state, listed["purchased"], listed["expired"]

    by_the_clock = shown()
    ledger.handle(ExpireReservation(reservation_id=uuid.UUID(cart["id"])))

    assert by_the_clock == shown() == ("purchased", [cart["id"]], [])
