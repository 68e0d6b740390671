"""/api/fungible over HTTP: every documented call with its whole answer, its headers and its refusals."""

import time
from datetime import datetime, timedelta
from urllib.parse import quote
from uuid import UUID

import msgspec
from falcon.testing import Result, TestClient

from ledger.catalogue.events import ProductRegistered, ProductRevised
from ledger.engine.ledger import Ledger
from ledger.identifiers import MAX_INTEGER
from ledger.stock.commands import AddStock, PutFungible
from ledger.stock.events import StockAdded, StockRemoved, StockReserved
from ledger.store.connection import Connection
from ledger.store.log import read

ID = "00000000-0000-4000-8000-000000000001"
A = "/api/fungible/A"
PENCIL = {
    "name": "Wooden pencil",
    "description": "Yellow, #2, pre-sharpened",
    "color": "Yellow",
    "unit_price_cents": 300,
    "shipping_weight_grams": 100,
}


WRITES = [
    ("PUT", A, {"color": "Red"}),
    ("POST", f"{A}/add/1", None),
    ("POST", f"{A}/remove/1", None),
    ("POST", f"{A}/reserve/1", None),
]


def product(sku: str, version: int, updated_at: str, **members) -> dict:
    """The whole answer: defaults, and the members that are given."""
    whole = {
        "sku": sku,
        "name": None,
        "description": None,
        "color": None,
        "unit_price_cents": 0,
        "shipping_weight_grams": 0,
        "amount_in_stock": 0,
        "reserved_quantity": 0,
        "version": version,
        "updated_at": updated_at,
        **members,
    }
    return {**whole, "available_quantity": whole["amount_in_stock"] - whole["reserved_quantity"]}


def problem(slug: str, title: str, status: int, detail: str, **members) -> dict:
    return {"type": f"/problems/{slug}", "title": title, "status": status, "detail": detail, **members}


def short(requested: int, available: int, held: int, next_release_at: str | None) -> dict:
    """The whole refusal of a quantity of A that is not there."""
    line = {"sku": "A", "requested": requested, "available": available}
    shortage = {**line, "held_by_others": held, "next_release_at": next_release_at}
    detail = f"SKU 'A': {requested} requested, {available} available."
    return problem("insufficient-stock", "Not enough is available", 409, detail, **line, shortages=[shortage])


def times(conn: Connection) -> list[str]:
    """When each entry of the log was recorded, as the wire says it."""
    return [msgspec.to_builtins(entry.recorded_at) for entry in read(conn, 0)]


def events(conn: Connection) -> list:
    return [entry.event for entry in read(conn, 0)]


def after(start: str, seconds: int) -> str:
    """The time so many seconds after `start`."""
    return msgspec.to_builtins(datetime.fromisoformat(start) + timedelta(seconds=seconds))


def refused(result: Result) -> tuple[int, str, dict]:
    return result.status_code, result.headers["Content-Type"], result.json


def as_problem(whole: dict) -> tuple[int, str, dict]:
    return whole["status"], "application/problem+json", whole


# Adding and updating


def test_posting_nothing_makes_a_product_with_a_sku_of_ours(client: TestClient, conn: Connection):
    made = client.simulate_post("/api/fungible", headers={"X-Request-Id": "r"})

    sku = made.json["sku"]
    assert (made.status_code, made.json) == (200, product(sku, 1, times(conn)[0]))
    assert made.headers["Location"] == f"/api/fungible/{sku}"
    assert client.simulate_get(made.headers["Location"]).json == made.json
    assert events(conn) == [ProductRegistered(kind="fungible", actor="anonymous", request_id="r")]


def test_posting_takes_every_member(client: TestClient, conn: Connection):
    made = client.simulate_post("/api/fungible", json={**PENCIL, "amount_in_stock": 973})

    assert made.json == product(made.json["sku"], 2, times(conn)[1], **PENCIL, amount_in_stock=973)


def test_posting_twice_makes_two_products(client: TestClient):
    first, second = (client.simulate_post("/api/fungible", json={}) for _ in range(2))

    assert first.json["sku"] != second.json["sku"]


def test_putting_an_unknown_sku_adds_it(client: TestClient, conn: Connection):
    put = client.simulate_put(A, json={**PENCIL, "amount_in_stock": 973})

    expected = product("A", 2, times(conn)[1], **PENCIL, amount_in_stock=973)
    assert (put.status_code, put.json) == (200, expected)
    assert client.simulate_get(A).json == expected


def test_putting_nothing_adds_an_empty_product(client: TestClient, conn: Connection):
    put = client.simulate_put(A)

    assert (put.status_code, put.json) == (200, product("A", 1, times(conn)[0]))


def test_putting_again_changes_only_the_members_that_are_given(client: TestClient, conn: Connection):
    client.simulate_put(A, json={**PENCIL, "amount_in_stock": 5})

    put = client.simulate_put(A, json={"color": "Red", "description": None}, headers={"X-Request-Id": "r"})

    changed = {**PENCIL, "color": "Red", "description": None, "amount_in_stock": 5}
    assert (put.status_code, put.json) == (200, product("A", 3, times(conn)[2], **changed))
    assert events(conn)[2:] == [ProductRevised(color="Red", description=None, actor="anonymous", request_id="r")]


def test_putting_what_is_there_already_records_nothing(client: TestClient):
    first = client.simulate_put(A, json={**PENCIL, "amount_in_stock": 5})

    again = [
        client.simulate_put(A),
        client.simulate_put(A, json={"amount_in_stock": 5}),
        client.simulate_put(A, json=PENCIL),
    ]

    assert [(put.status_code, put.json) for put in again] == [(200, first.json)] * 3
    assert {put.headers["Ledger-Position"] for put in (first, *again)} == {"2"}


def test_putting_an_amount_records_the_difference(client: TestClient, conn: Connection):
    for amount in (5, 8, 2):
        put = client.simulate_put(A, json={"amount_in_stock": amount}, headers={"X-Request-Id": "r"})
        assert put.json["amount_in_stock"] == put.json["available_quantity"] == amount

    by = {"actor": "anonymous", "request_id": "r"}
    assert events(conn)[1:] == [
        StockAdded(quantity=5, on_hand=5, reserved=0, **by),
        StockAdded(quantity=3, on_hand=8, reserved=0, **by),
        StockRemoved(quantity=6, on_hand=2, reserved=0, **by),
    ]


def test_an_amount_cannot_be_set_below_what_is_reserved(client: TestClient):
    client.simulate_put(A, json={"amount_in_stock": 5})
    held = client.simulate_post(f"{A}/reserve/3").json

    below = client.simulate_put(A, json={"amount_in_stock": 2, "color": "Red"})
    just = client.simulate_put(A, json={"amount_in_stock": 3})

    assert refused(below) == as_problem(short(3, 2, 3, held["reservation"]["expires_at"]))
    assert (just.status_code, just.json["color"], just.json["available_quantity"]) == (200, None, 0)


def test_the_largest_amounts_are_kept_exactly(client: TestClient):
    members = {"amount_in_stock": MAX_INTEGER, "unit_price_cents": MAX_INTEGER, "shipping_weight_grams": MAX_INTEGER}

    put = client.simulate_put(A, json=members)

    assert (put.status_code, put.json) == (200, product("A", 2, put.json["updated_at"], **members))
    assert client.simulate_get(A).json == put.json


# Quantities


def test_adding_raises_the_stock(client: TestClient, conn: Connection):
    client.simulate_put(A, json={"amount_in_stock": 5})

    added = client.simulate_post(f"{A}/add/2")

    assert (added.status_code, added.json) == (200, product("A", 3, times(conn)[2], amount_in_stock=7))
    assert client.simulate_get(A).json == added.json


def test_removing_lowers_the_stock_down_to_nothing(client: TestClient, conn: Connection):
    client.simulate_put(A, json={"amount_in_stock": 5})

    removed = client.simulate_post(f"{A}/remove/5")

    assert (removed.status_code, removed.json) == (200, product("A", 3, times(conn)[2]))
    assert client.simulate_get(A).json == removed.json


def test_reason_and_reference_are_recorded(client: TestClient, conn: Connection):
    client.simulate_put(A)
    why = {"reason": "delivery", "reference": "order 7"}

    for call in ("add/2", "remove/1", "reserve/1"):
        assert client.simulate_post(f"{A}/{call}", json=why).status_code == 200

    assert [(e.reason, e.reference) for e in events(conn)[1:]] == [("delivery", "order 7")] * 3


def test_no_more_can_be_removed_than_is_available(client: TestClient):
    client.simulate_put(A, json={"amount_in_stock": 5})
    held = client.simulate_post(f"{A}/reserve/3").json["reservation"]

    refusal = client.simulate_post(f"{A}/remove/3")

    assert refused(refusal) == as_problem(short(3, 2, 3, held["expires_at"]))
    assert client.simulate_post(f"{A}/remove/2").json["amount_in_stock"] == 3


def test_stock_beyond_the_limit_is_refused(client: TestClient):
    client.simulate_put(A, json={"amount_in_stock": MAX_INTEGER - 1})

    refusal = client.simulate_post(f"{A}/add/2")

    detail = f"The stock of SKU 'A' would exceed {MAX_INTEGER}."
    expected = problem("stock-limit", "The stock would be too large", 409, detail, sku="A", limit=MAX_INTEGER)
    assert refused(refusal) == as_problem(expected)
    assert client.simulate_post(f"{A}/add/1").json["amount_in_stock"] == MAX_INTEGER


def test_leading_zeros_are_no_other_quantity(client: TestClient):
    client.simulate_put(A)

    assert client.simulate_post(f"{A}/add/007").json["amount_in_stock"] == 7


# Reserving


def test_reserving_answers_the_product_and_its_new_reservation(client: TestClient, conn: Connection):
    client.simulate_put(A, json={"amount_in_stock": 5})

    held = client.simulate_post(f"{A}/reserve/3")

    at = times(conn)[2]
    reservation = {
        "id": held.json["reservation"]["id"],
        "state": "open",
        "owner": None,
        "reference": None,
        "created_at": at,
        "expires_at": after(at, 3600),
        "ended_at": None,
        "lines": [{"sku": "A", "quantity": 3, "released": 0, "purchased": 0}],
    }
    shown = product("A", 3, at, amount_in_stock=5, reserved_quantity=3)
    assert (held.status_code, held.json) == (200, {**shown, "reservation": reservation})
    assert client.simulate_get(A).json == shown


def test_a_reservation_takes_the_callers_id_owner_reference_and_duration(client: TestClient, conn: Connection):
    client.simulate_put(A, json={"amount_in_stock": 5})
    body = {"reservation_id": ID, "ttl_seconds": 60, "owner": "ann", "reference": "cart 7", "reason": "web"}

    held = client.simulate_post(f"{A}/reserve/5", json=body, headers={"X-Request-Id": "r"}).json

    at = times(conn)[2]
    assert held["reservation"] == {
        "id": ID,
        "state": "open",
        "owner": "ann",
        "reference": "cart 7",
        "created_at": at,
        "expires_at": after(at, 60),
        "ended_at": None,
        "lines": [{"sku": "A", "quantity": 5, "released": 0, "purchased": 0}],
    }
    (event,) = events(conn)[2:]
    expected = StockReserved(
        quantity=5,
        on_hand=5,
        reserved=5,
        reservation_id=UUID(ID),
        expires_at=datetime.fromisoformat(at) + timedelta(seconds=60),
        owner="ann",
        fingerprint=event.fingerprint,
        actor="anonymous",
        request_id="r",
        reason="web",
        reference="cart 7",
    )
    assert event == expected


def test_a_reservation_lasts_from_one_second_to_thirty_days(client: TestClient):
    client.simulate_put(A, json={"amount_in_stock": 2})

    for ttl_seconds in (1, 2_592_000):
        held = client.simulate_post(f"{A}/reserve/1", json={"ttl_seconds": ttl_seconds}).json["reservation"]

        assert held["expires_at"] == after(held["created_at"], ttl_seconds)


def test_no_more_can_be_reserved_than_is_available(client: TestClient):
    client.simulate_put(A, json={"amount_in_stock": 5})
    later = client.simulate_post(f"{A}/reserve/1", json={"ttl_seconds": 600}).json["reservation"]
    sooner = client.simulate_post(f"{A}/reserve/2", json={"ttl_seconds": 60}).json["reservation"]

    refusal = client.simulate_post(f"{A}/reserve/3")

    assert sooner["expires_at"] < later["expires_at"]
    assert refused(refusal) == as_problem(short(3, 2, 3, sooner["expires_at"]))
    assert client.simulate_post(f"{A}/reserve/2").json["available_quantity"] == 0


def test_a_shortage_with_nothing_held_has_no_next_release(client: TestClient):
    client.simulate_put(A, json={"amount_in_stock": 1})

    assert refused(client.simulate_post(f"{A}/reserve/2")) == as_problem(short(2, 1, 0, None))


def test_the_same_reservation_again_is_the_same_reservation(client: TestClient):
    client.simulate_put(A, json={"amount_in_stock": 5})
    body = {"reservation_id": ID, "owner": "ann"}
    first = client.simulate_post(f"{A}/reserve/3", json=body)

    again = client.simulate_post(f"{A}/reserve/3", json=body)

    assert (again.status_code, again.json) == (200, first.json)
    assert again.headers["Ledger-Position"] == first.headers["Ledger-Position"]


def test_the_id_of_another_reservation_is_refused(client: TestClient):
    client.simulate_put(A, json={"amount_in_stock": 9})
    client.simulate_post(f"{A}/reserve/3", json={"reservation_id": ID, "owner": "ann"})

    refusals = [
        client.simulate_post(f"{A}/reserve/2", json={"reservation_id": ID, "owner": "ann"}),
        client.simulate_post(f"{A}/reserve/3", json={"reservation_id": ID, "owner": "bob"}),
    ]

    title, detail = "The reservation exists with other content", f"Reservation {ID} already exists with other content."
    expected = problem("reservation-id-taken", title, 409, detail, reservation_id=ID)
    assert [refused(refusal) for refusal in refusals] == [as_problem(expected)] * 2
    assert client.simulate_get(A).json["reserved_quantity"] == 3


def test_a_hold_that_is_over_shows_as_over(client: TestClient, conn: Connection):
    client.simulate_put(A, json={"amount_in_stock": 5})
    held = client.simulate_post(f"{A}/reserve/3", json={"ttl_seconds": 1}).json
    open_hold = client.simulate_post(f"{A}/reserve/1").json
    time.sleep(1.1)

    shown = product("A", 4, open_hold["updated_at"], amount_in_stock=5, reserved_quantity=1)
    assert client.simulate_get(A).json == shown
    assert client.simulate_get("/api/fungible").json["items"] == [shown]
    over = client.simulate_get(f"/api/reservations/{held['reservation']['id']}").json
    assert (over["state"], over["ended_at"]) == ("expired", over["expires_at"])
    assert len(events(conn)) == 4  # looking at it has written nothing

    assert client.simulate_post(f"{A}/reserve/4").json["available_quantity"] == 0


def test_a_hold_that_ends_makes_a_known_answer_stale(client: TestClient, conn: Connection):
    """The version changes only when the end is written down; until then the answer is another one already."""
    client.simulate_put(A, json={"amount_in_stock": 5})
    known = client.simulate_post(f"{A}/reserve/3").headers["ETag"]
    conn.execute("UPDATE reservation_lines SET expires_at = clock_timestamp()")

    shown = client.simulate_get(A, headers={"If-None-Match": known})

    assert (shown.status_code, shown.json["reserved_quantity"]) == (200, 0)
    now_known = shown.headers["ETag"]
    assert client.simulate_get(A, headers={"If-None-Match": now_known}).status_code == 304
    assert client.simulate_put(A, json={"color": "Red"}, headers={"If-Match": now_known}).status_code == 200


# What is not there, or is of the other kind


def test_an_unknown_product(client: TestClient):
    client.simulate_put(A)

    refusals = [
        client.simulate_get("/api/fungible/Z"),
        client.simulate_post("/api/fungible/Z/add/1"),
        client.simulate_post("/api/fungible/Z/remove/1"),
        client.simulate_post("/api/fungible/Z/reserve/1"),
    ]

    expected = problem("unknown-product", "No such product", 404, "There is no product with SKU 'Z'.", sku="Z")
    assert [refused(refusal) for refusal in refusals] == [as_problem(expected)] * 4
    assert [refusal.headers.get("Ledger-Position") for refusal in refusals] == ["1"] * 4


def test_a_product_of_the_other_kind(client: TestClient):
    client.simulate_put("/api/non-fungible/B/1")

    refusals = [
        client.simulate_get("/api/fungible/B"),
        client.simulate_put("/api/fungible/B", json={"color": "Red"}),
        client.simulate_post("/api/fungible/B/add/1"),
        client.simulate_post("/api/fungible/B/remove/1"),
        client.simulate_post("/api/fungible/B/reserve/1"),
    ]

    title, detail = "The product is of the other kind", "SKU 'B' is a non-fungible product."
    expected = problem("other-kind", title, 409, detail, sku="B", kind="non-fungible")
    assert [refused(refusal) for refusal in refusals] == [as_problem(expected)] * 5
    assert [refusal.headers.get("Ledger-Position") for refusal in refusals] == ["2"] * 5


# Headers


def test_every_answer_says_what_it_reflects(client: TestClient):
    put = client.simulate_put(A, json={"amount_in_stock": 5})
    added = client.simulate_post(f"{A}/add/1")
    shown = client.simulate_get(A)

    assert [(r.headers["Ledger-Position"], r.headers["ETag"]) for r in (put, added, shown)] == [
        ("2", '"2"'),
        ("3", '"3"'),
        ("3", '"3"'),
    ]
    assert {r.headers["Content-Type"] for r in (put, added, shown)} == {"application/json"}
    assert client.simulate_get("/api/fungible").headers["Ledger-Position"] == "3"
    assert client.simulate_post(f"{A}/remove/7").headers["Ledger-Position"] == "3"


def test_the_callers_request_id_comes_back_and_is_recorded(client: TestClient, conn: Connection):
    sensible = ["abc", "x" * 128, "a/b:c-1!~"]

    for given in sensible:
        headers = {"X-Request-Id": given}
        answers = [
            client.simulate_post("/api/fungible", headers=headers),
            client.simulate_get("/api/fungible", headers=headers),
            client.simulate_get("/api/fungible/Z", headers=headers),
            client.simulate_get("/nowhere", headers=headers),
        ]
        assert {answer.headers["X-Request-Id"] for answer in answers} == {given}

    assert [event.request_id for event in events(conn)] == sensible


def test_without_a_sensible_request_id_the_answer_has_one_of_ours(client: TestClient, conn: Connection):
    headers = [{}, *({"X-Request-Id": given} for given in ("", "x" * 129, "a b", "é", "a\tb"))]

    ours = [client.simulate_post("/api/fungible", headers=given).headers["X-Request-Id"] for given in headers]
    ours_when_refused = client.simulate_get("/nowhere").headers["X-Request-Id"]

    assert len({*ours, ours_when_refused}) == 7
    assert {len(one) for one in (*ours, ours_when_refused)} <= {32, 36}
    assert [event.request_id for event in events(conn)] == ours


def test_a_known_version_is_not_sent_again(client: TestClient):
    client.simulate_put(A, json={"amount_in_stock": 5})

    for known in ('"2"', 'W/"2"', '"1", "2"', "*"):
        answer = client.simulate_get(A, headers={"If-None-Match": known})

        assert (answer.status_code, answer.content) == (304, b"")
        assert (answer.headers["ETag"], answer.headers["Ledger-Position"]) == ('"2"', "2")


def test_another_version_is_sent(client: TestClient):
    put = client.simulate_put(A, json={"amount_in_stock": 5})

    for known in ('"1"', "2", '"22"', "nonsense", ""):
        answer = client.simulate_get(A, headers={"If-None-Match": known})

        assert (answer.status_code, answer.json) == (200, put.json)


def test_a_write_is_done_if_the_version_matches(client: TestClient):
    version = client.simulate_put(A, json={"amount_in_stock": 5}).json["version"]

    for method, path, body in WRITES:
        for match in (f'"{version}"', f'"1", "{version + 1}"', "*"):
            body = body and {"color": match}
            answer = client.simulate_request(method, path, json=body, headers={"If-Match": match})

            version += 1
            assert (answer.status_code, answer.json["version"]) == (200, version)
            assert answer.headers["ETag"] == f'"{version}"'


def test_a_write_is_refused_if_the_version_does_not_match(client: TestClient):
    put = client.simulate_put(A, json={"amount_in_stock": 5})

    for method, path, body in WRITES:
        refusal = client.simulate_request(method, path, json=body, headers={"If-Match": '"1", "3"'})

        detail = refusal.json["detail"]
        expected = problem("precondition-failed", "The precondition does not hold", 412, detail, version=2)
        assert refused(refusal) == as_problem(expected)
        assert refusal.headers["Ledger-Position"] == "2"
        assert "exists already" not in detail  # nobody said that it should not
    assert client.simulate_get(A).json == put.json


def test_a_product_can_be_put_only_if_it_is_new(client: TestClient):
    first = client.simulate_put(A, headers={"If-None-Match": "*"})
    second = client.simulate_put(A, json={"color": "Red"}, headers={"If-None-Match": "*"})

    title = "The precondition does not hold"
    assert first.status_code == 200
    assert refused(second) == as_problem(problem("precondition-failed", title, 412, "It exists already.", version=1))
    assert client.simulate_get(A).json == first.json


def test_a_product_can_be_put_only_if_it_is_there(client: TestClient):
    for match in ("*", '"1"'):
        refusal = client.simulate_put(A, headers={"If-Match": match})

        detail = refusal.json["detail"]
        expected = problem("precondition-failed", "The precondition does not hold", 412, detail, version=None)
        assert refused(refusal) == as_problem(expected)
    assert client.simulate_get(A).status_code == 404


# Idempotency-Key


def test_a_repeated_write_is_done_once(client: TestClient, conn: Connection):
    client.simulate_put(A, json={"amount_in_stock": 5})

    for key, (method, path, body) in enumerate(WRITES):
        headers = {"Idempotency-Key": str(key)}
        first = client.simulate_request(method, path, json=body, headers=headers)
        client.simulate_post(f"{A}/add/1")
        again = client.simulate_request(method, path, json=body, headers=headers)

        assert (again.status_code, again.json) == (first.status_code, first.json) == (200, first.json)
        assert [r.headers.get("Idempotent-Replayed") for r in (first, again)] == [None, "true"]
        assert again.headers["Ledger-Position"] == first.headers["Ledger-Position"]
        assert again.headers["ETag"] == first.headers["ETag"]
    assert len(events(conn)) == 2 + 2 * len(WRITES)


def test_a_repeated_post_makes_one_product(client: TestClient):
    first, again = (client.simulate_post("/api/fungible", headers={"Idempotency-Key": "k"}) for _ in range(2))

    assert again.json == first.json
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(client.simulate_get("/api/fungible").json["items"]) == 1


def test_a_key_cannot_be_used_with_another_request(client: TestClient):
    client.simulate_put(A, json={"amount_in_stock": 5})
    client.simulate_put("/api/fungible/B")
    client.simulate_post(f"{A}/add/1", json={"reason": "x"}, headers={"Idempotency-Key": "k"})

    refusals = [
        client.simulate_post(path, json=body, headers={"Idempotency-Key": "k", **more})
        for path, body, more in [
            (f"{A}/add/2", {"reason": "x"}, {}),
            (f"{A}/remove/1", {"reason": "x"}, {}),
            (f"{A}/add/1", {"reason": "y"}, {}),
            (f"{A}/add/1", None, {}),
            (f"{A}/add/1", {"reason": "x"}, {"If-Match": '"3"'}),
            ("/api/fungible/B/add/1", {"reason": "x"}, {}),
        ]
    ]

    title, detail = "The key was used with another request", "This Idempotency-Key was used with another request."
    expected = problem("idempotency-key-reused", title, 422, detail, idempotency_key="k")
    assert [refused(refusal) for refusal in refusals] == [as_problem(expected)] * 6
    assert {refusal.headers["Ledger-Position"] for refusal in refusals} == {"4"}


def test_a_refusal_is_not_kept(client: TestClient):
    client.simulate_put(A)
    assert client.simulate_post(f"{A}/remove/1", headers={"Idempotency-Key": "k"}).status_code == 409
    client.simulate_post(f"{A}/add/1")

    answer = client.simulate_post(f"{A}/remove/1", headers={"Idempotency-Key": "k"})

    assert (answer.status_code, answer.json["amount_in_stock"]) == (200, 0)
    assert "Idempotent-Replayed" not in answer.headers


def test_a_key_may_have_255_characters(client: TestClient):
    key = "~" * 255

    first, again = (client.simulate_post("/api/fungible", headers={"Idempotency-Key": key}) for _ in range(2))

    assert (first.status_code, again.json) == (200, first.json)


# Methods and paths


def test_a_wrong_method_is_told_the_right_ones(client: TestClient):
    right = {
        "/api/fungible": {"GET", "POST"},
        A: {"GET", "PUT"},
        f"{A}/add/1": {"POST"},
        f"{A}/remove/1": {"POST"},
        f"{A}/reserve/1": {"POST"},
    }
    wrong = [(m, path) for path in right for m in ("GET", "POST", "PUT", "PATCH", "DELETE") if m not in right[path]]

    refusals = {(method, path): client.simulate_request(method, path) for method, path in wrong}

    told = {path: set(refusals[method, path].headers["Allow"].split(", ")) for method, path in wrong}
    assert {path: methods - {"OPTIONS", "HEAD"} for path, methods in told.items()} == right
    expected = problem("method-not-allowed", "Method Not Allowed", 405, "Method Not Allowed.")
    assert [refused(refusal) for refusal in refusals.values()] == [as_problem(expected)] * len(wrong)


def test_an_unknown_path_is_a_problem_too(client: TestClient):
    paths = ("/", "/api", "/api/nothing", "/api//fungible", f"{A}/add", f"{A}/add/1/", f"{A}/b/1")

    answers = [client.simulate_get(path, headers={"Accept": "text/html"}) for path in paths]

    assert [refused(answer) for answer in answers] == [
        as_problem(problem("not-found", "Not Found", 404, "Not Found."))
    ] * len(paths)


# Lists


def put_all(ledger: Ledger, skus: list[str]) -> None:
    ledger.handle_many([PutFungible(sku=sku) for sku in skus])


def pages(client: TestClient, path: str, limit: int) -> list[list[dict]]:
    """Follow the cursors to the end."""
    found, cursor = [], ""
    while cursor is not None:
        answer = client.simulate_get(path, params={"limit": limit} | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200
        assert set(answer.json) == {"items", "next_cursor"}
        found.append(answer.json["items"])
        cursor = answer.json["next_cursor"]
        assert len(found) < 10, "the cursors lead nowhere"
    return found


def test_an_empty_list(client: TestClient):
    answer = client.simulate_get("/api/fungible")

    assert (answer.status_code, answer.json) == (200, {"items": [], "next_cursor": None})
    assert answer.headers["Ledger-Position"] == "0"


def test_the_list_holds_fungible_products_in_order_of_their_sku(client: TestClient):
    client.simulate_put("/api/non-fungible/M/1")
    shown = [client.simulate_put(f"/api/fungible/{sku}", json={"amount_in_stock": 2}).json for sku in ("b", "é", "B")]
    held = client.simulate_post("/api/fungible/b/reserve/1").json
    del held["reservation"]

    answer = client.simulate_get("/api/fungible")

    assert answer.json == {"items": [shown[2], held, shown[1]], "next_cursor": None}
    assert answer.headers["Ledger-Position"] == "9"


def test_pages_follow_each_other_to_the_end(client: TestClient, ledger: Ledger):
    put_all(ledger, ["D", "a b", 'B"%', "é"])

    for limit, sizes in ((1, [1, 1, 1, 1]), (2, [2, 2]), (3, [3, 1]), (4, [4]), (5, [4])):
        found = pages(client, "/api/fungible", limit)

        assert [len(page) for page in found] == sizes
        assert [item["sku"] for page in found for item in page] == ['B"%', "D", "a b", "é"]


def test_what_is_added_between_pages_neither_repeats_nor_hides_anything(client: TestClient, ledger: Ledger):
    put_all(ledger, ["B", "C", "D"])
    cursor = client.simulate_get("/api/fungible?limit=2").json["next_cursor"]
    put_all(ledger, ["A", "CC"])

    answer = client.simulate_get("/api/fungible", params={"cursor": cursor})

    assert [item["sku"] for item in answer.json["items"]] == ["CC", "D"]


def test_a_page_has_100_products_by_default_and_500_at_most(client: TestClient, ledger: Ledger):
    put_all(ledger, [f"{number:03}" for number in range(501)])

    assert len(client.simulate_get("/api/fungible").json["items"]) == 100
    assert [len(page) for page in pages(client, "/api/fungible", 500)] == [500, 1]


# Names


ODD_NAMES = [
    "'; DROP TABLE products; --",
    "..",
    "100%",
    "%2F",
    "BANK CHARGES",
    "a  b",
    'a"b',
    "a'b",
    "a+b&c=d;e?f#g",
    "a\\b",
    "a\ufffdb",
    "add",
    "e\u0301",
    "{sku}",
    "é" * 100,
    "日本語",
    "😀",
]


def test_odd_names_are_fine(client: TestClient):
    shown = []
    for sku in ODD_NAMES:
        path = "/api/fungible/" + quote(sku, safe="")
        put = client.simulate_put(path, json={"amount_in_stock": 5}, extras={"REQUEST_URI": path})
        held = client.simulate_post(f"{path}/reserve/2", extras={"REQUEST_URI": f"{path}/reserve/2"}).json

        assert put.json == product(sku, 2, put.json["updated_at"], amount_in_stock=5)
        assert held["reservation"]["lines"] == [{"sku": sku, "quantity": 2, "released": 0, "purchased": 0}]
        shown.append(product(sku, 3, held["updated_at"], amount_in_stock=5, reserved_quantity=2))
        assert client.simulate_get(path).json == shown[-1]

    assert client.simulate_get("/api/fungible").json["items"] == sorted(shown, key=lambda item: item["sku"])


def test_white_space_around_a_name_is_trimmed(client: TestClient):
    client.simulate_put(A)

    for path in ("%20A", "A%20%20", "%C2%A0A%E3%80%80", "%0AA%09", "%20" * 50 + "A" + "%20" * 51):
        added = client.simulate_post(f"/api/fungible/{path}/add/1")

        assert (added.status_code, added.json["sku"]) == (200, "A")
    assert client.simulate_get(A).json["amount_in_stock"] == 5


def test_names_are_case_sensitive(client: TestClient):
    client.simulate_put(A)

    assert client.simulate_get("/api/fungible/a").status_code == 404


def test_a_name_has_at_most_100_characters(client: TestClient, ledger: Ledger):
    ledger.handle(PutFungible(sku="x" * 100))
    ledger.handle(AddStock(sku="x" * 100, quantity=1))

    assert client.simulate_get("/api/fungible/" + "x" * 100).json["amount_in_stock"] == 1
    assert client.simulate_put("/api/fungible/" + "%20" + "x" * 100).status_code == 200
    assert client.simulate_put("/api/fungible/" + "x" * 101).status_code == 422
