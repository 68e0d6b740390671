"""/api/non-fungible over HTTP: every documented call with its whole answer, its headers and its refusals."""

import time
from datetime import datetime, timedelta
from urllib.parse import quote
from uuid import UUID

import msgspec
from falcon.testing import Result, TestClient

from ledger.catalogue.events import ProductRegistered, ProductRevised
from ledger.engine.ledger import Ledger
from ledger.items.commands import PutItem
from ledger.items.events import (
    ItemAdded,
    ItemPurchased,
    ItemReleased,
    ItemReservationExtended,
    ItemReserved,
    ItemReturned,
    ItemRevised,
)
from ledger.store.connection import Connection
from ledger.store.log import read
from tests.ledger.given import PURCHASE_ID

ID = "00000000-0000-4000-8000-000000000001"
OTHER_ID = "00000000-0000-4000-8000-000000000002"
B1 = "/api/non-fungible/B/1"
B2 = "/api/non-fungible/B/2"
BY = {"actor": "anonymous", "request_id": "r"}
R = {"X-Request-Id": "r"}
HONDA = {
    "name": "Motorcycle",
    "description": "Honda CB750F",
    "color": "Yellow",
    "notes": "Scratches on the tank",
    "price_cents": 320000,
    "shipping_weight_grams": 200000,
}
WRITES = [
    ("PUT", B1, {"color": "Red"}),
    ("PUT", f"{B1}/reservation", {"reservation_id": ID}),
    ("DELETE", f"{B1}/reservation", None),
]


def item(sku: str, sn: str, version: int, updated_at: str, **members) -> dict:
    """The whole answer: defaults, and the members that are given."""
    return {
        "sku": sku,
        "sn": sn,
        "name": None,
        "description": None,
        "color": None,
        "notes": None,
        "price_cents": 0,
        "shipping_weight_grams": 0,
        "reserved": None,
        "reserved_until": None,
        "reservation_id": None,
        "sold": False,
        "version": version,
        "updated_at": updated_at,
        **members,
    }


def counted(sku: str, total: int, reserved: int = 0, sold: int = 0, **members) -> dict:
    """A whole product in a list, with the counts of its items."""
    return {
        "sku": sku,
        "name": None,
        "description": None,
        "shipping_weight_grams": 0,
        "item_count": total,
        "available_count": total - reserved - sold,
        "reserved_count": reserved,
        "sold_count": sold,
        **members,
    }


def problem(slug: str, title: str, status: int, detail: str, **members) -> dict:
    return {"type": f"/problems/{slug}", "title": title, "status": status, "detail": detail, **members}


def already_sold() -> dict:
    detail = "Item '1' of SKU 'B' is already sold."
    return problem("already-sold", "The item is already sold", 409, detail, sku="B", sn="1")


def times(conn: Connection) -> list[str]:
    """When each entry of the log was recorded, as the wire says it."""
    return [msgspec.to_builtins(entry.recorded_at) for entry in read(conn, 0)]


def events(conn: Connection) -> list:
    return [entry.event for entry in read(conn, 0)]


def moment(text: str, seconds: int = 0) -> datetime:
    """The time so many seconds after `text`."""
    return datetime.fromisoformat(text) + timedelta(seconds=seconds)


def after(start: str, seconds: int) -> str:
    return msgspec.to_builtins(moment(start, seconds))


def refused(result: Result) -> tuple[int, str, dict]:
    return result.status_code, result.headers["Content-Type"], result.json


def as_problem(whole: dict) -> tuple[int, str, dict]:
    return whole["status"], "application/problem+json", whole


# Adding and updating


def test_putting_adds_the_item_and_its_product(client: TestClient, conn: Connection):
    put = client.simulate_put(B1, json=HONDA, headers=R)

    expected = item("B", "1", 2, times(conn)[1], **HONDA)
    assert (put.status_code, put.json) == (200, expected)
    assert client.simulate_get(B1).json == expected
    assert events(conn) == [
        ProductRegistered(
            kind="non-fungible",
            name="Motorcycle",
            description="Honda CB750F",
            shipping_weight_grams=200000,
            **BY,
        ),
        ItemAdded(color="Yellow", notes="Scratches on the tank", price_cents=320000, **BY),
    ]


def test_putting_nothing_adds_an_empty_item(client: TestClient, conn: Connection):
    put = client.simulate_put(B1)

    assert (put.status_code, put.json) == (200, item("B", "1", 2, times(conn)[1]))


def test_putting_again_changes_only_the_members_that_are_given(client: TestClient, conn: Connection):
    client.simulate_put(B1, json=HONDA)

    put = client.simulate_put(B1, json={"shipping_weight_grams": 1, "notes": None, "price_cents": 5}, headers=R)

    changed = {**HONDA, "shipping_weight_grams": 1, "notes": None, "price_cents": 5}
    assert (put.status_code, put.json) == (200, item("B", "1", 4, times(conn)[3], **changed))
    assert events(conn)[2:] == [
        ProductRevised(shipping_weight_grams=1, **BY),
        ItemRevised(notes=None, price_cents=5, **BY),
    ]


def test_putting_what_is_there_already_records_nothing(client: TestClient):
    first = client.simulate_put(B1, json=HONDA)

    again = [client.simulate_put(B1), client.simulate_put(B1, json={**HONDA, "sold": False})]

    assert [(put.status_code, put.json) for put in again] == [(200, first.json)] * 2
    assert {put.headers["Ledger-Position"] for put in (first, *again)} == {"2"}


def test_name_description_and_weight_belong_to_the_product_and_the_rest_to_the_item(
    client: TestClient, conn: Connection
):
    client.simulate_put(B1, json=HONDA)

    put = client.simulate_put(B2, json={"description": "Honda CB750K", "color": "Red"})

    of_the_product = {"name": "Motorcycle", "description": "Honda CB750K", "shipping_weight_grams": 200000}
    assert put.json == item("B", "2", 3, times(conn)[3], **of_the_product, color="Red")
    assert client.simulate_get(B1).json == item("B", "1", 3, times(conn)[2], **{**HONDA, **of_the_product})


def test_a_serial_number_is_unique_within_its_sku_only(client: TestClient):
    client.simulate_put(B1, json={"color": "Red"})
    client.simulate_put("/api/non-fungible/C/1", json={"color": "Blue"})

    assert client.simulate_get(B1).json["color"] == "Red"
    assert client.simulate_get("/api/non-fungible/C/1").json["color"] == "Blue"


# Selling


def test_sold_records_a_purchase_and_back_a_return(client: TestClient, conn: Connection):
    client.simulate_put(B1)

    sold = client.simulate_put(B1, json={"sold": True}, headers=R)
    again = client.simulate_put(B1, json={"sold": True})
    back = client.simulate_put(B1, json={"sold": False}, headers=R)

    assert (sold.status_code, sold.json) == (200, item("B", "1", 3, times(conn)[2], sold=True))
    assert again.json == sold.json
    assert (back.status_code, back.json) == (200, item("B", "1", 4, times(conn)[3]))
    purchased, returned = events(conn)[2:]
    assert purchased == ItemPurchased(purchase_id=purchased.purchase_id, **BY)
    assert returned == ItemReturned(**BY)


def test_selling_a_reserved_item_purchases_its_reservation(client: TestClient, conn: Connection):
    client.simulate_put(B1)
    client.simulate_put(f"{B1}/reservation", json={"reservation_id": ID})

    sold = client.simulate_put(B1, json={"sold": True})

    at = times(conn)[3]
    assert sold.json == client.simulate_get(B1).json == item("B", "1", 4, at, sold=True)
    reservation = client.simulate_get(f"/api/reservations/{ID}").json
    assert (reservation["state"], reservation["ended_at"]) == ("purchased", at)


def test_an_item_that_was_purchased_under_a_reservation_can_come_back(client: TestClient, conn: Connection):
    client.simulate_put(B1)
    client.simulate_put(f"{B1}/reservation", json={"reservation_id": ID})
    client.simulate_put(B1, json={"sold": True})

    back = client.simulate_put(B1, json={"sold": False}, headers=R)

    assert (back.status_code, back.json) == (200, item("B", "1", 5, times(conn)[4]))
    assert events(conn)[4:] == [ItemReturned(reservation_id=UUID(ID), **BY)]
    reservation = client.simulate_get(f"/api/reservations/{ID}").json
    line = {"sku": "B", "sn": "1", "released": 0, "purchased": 1, "returned": 1}
    assert (reservation["state"], reservation["lines"]) == ("purchased", [line])


# Reserving


def test_reserving_sets_the_time(client: TestClient, conn: Connection):
    client.simulate_put(B1)

    held = client.simulate_put(f"{B1}/reservation")

    at = times(conn)[2]
    hold = {"reserved": at, "reserved_until": after(at, 3600), "reservation_id": held.json["reservation_id"]}
    assert UUID(hold["reservation_id"])
    assert at.endswith("Z")
    assert (held.status_code, held.json) == (200, item("B", "1", 3, at, **hold))
    assert client.simulate_get(B1).json == held.json


def test_a_reservation_takes_the_callers_id_owner_reference_and_duration(client: TestClient, conn: Connection):
    client.simulate_put(B1)
    body = {"reservation_id": ID, "ttl_seconds": 60, "owner": "ann", "reference": "cart 7", "reason": "web"}

    held = client.simulate_put(f"{B1}/reservation", json=body, headers=R)

    at = times(conn)[2]
    hold = {"reserved": at, "reserved_until": after(at, 60), "reservation_id": ID}
    assert held.json == item("B", "1", 3, at, **hold)
    (event,) = events(conn)[2:]
    given = {"owner": "ann", "reference": "cart 7", "reason": "web", "fingerprint": event.fingerprint}
    assert event == ItemReserved(reservation_id=UUID(ID), expires_at=moment(at, 60), **given, **BY)


def test_an_item_that_another_holds_is_refused(client: TestClient):
    client.simulate_put(B1)
    held = client.simulate_put(f"{B1}/reservation", json={"reservation_id": ID})

    refusals = [
        client.simulate_put(f"{B1}/reservation", json={"reservation_id": OTHER_ID}),
        client.simulate_put(f"{B1}/reservation"),
    ]

    until, detail = held.json["reserved_until"], "Item '1' of SKU 'B' is already reserved."
    members = {"sku": "B", "sn": "1", "reserved_until": until}
    expected = problem("already-reserved", "The item is already reserved", 409, detail, **members)
    assert [refused(refusal) for refusal in refusals] == [as_problem(expected)] * 2
    assert client.simulate_get(B1).json == held.json


def test_the_same_reservation_again_extends_it(client: TestClient, conn: Connection):
    client.simulate_put(B1)
    first = client.simulate_put(f"{B1}/reservation", json={"reservation_id": ID, "ttl_seconds": 60}).json

    again = client.simulate_put(f"{B1}/reservation", json={"reservation_id": ID, "ttl_seconds": 90}, headers=R)

    at = times(conn)[3]
    hold = {"reserved": first["reserved"], "reserved_until": after(at, 90), "reservation_id": ID}
    assert (again.status_code, again.json) == (200, item("B", "1", 4, at, **hold))
    assert client.simulate_get(B1).json == again.json
    assert events(conn)[3:] == [ItemReservationExtended(reservation_id=UUID(ID), expires_at=moment(at, 90), **BY)]


def test_the_id_of_another_reservation_is_refused(client: TestClient):
    client.simulate_put(B1)
    client.simulate_put(B2)
    client.simulate_put("/api/fungible/A", json={"amount_in_stock": 1})
    client.simulate_put(f"{B1}/reservation", json={"reservation_id": ID})
    client.simulate_post("/api/fungible/A/reserve/1", json={"reservation_id": OTHER_ID})

    title = "The reservation exists with other content"
    for taken in (ID, OTHER_ID):
        refusal = client.simulate_put(f"{B2}/reservation", json={"reservation_id": taken})

        detail = f"Reservation {taken} already exists with other content."
        expected = problem("reservation-id-taken", title, 409, detail, reservation_id=taken)
        assert refused(refusal) == as_problem(expected)
    assert client.simulate_get(B2).json["reserved"] is None


def test_releasing_clears_the_time(client: TestClient, conn: Connection):
    client.simulate_put(B1)
    client.simulate_put(f"{B1}/reservation", json={"reservation_id": ID})

    freed = client.simulate_delete(f"{B1}/reservation", json={"reason": "changed mind"}, headers=R)
    again = client.simulate_delete(f"{B1}/reservation")

    at = times(conn)[3]
    assert (freed.status_code, freed.json) == (200, item("B", "1", 4, at))
    assert (again.status_code, again.json) == (200, freed.json)
    assert client.simulate_get(B1).json == freed.json
    released = ItemReleased(reservation_id=UUID(ID), cause="cancelled", reason="changed mind", **BY)
    assert events(conn)[3:] == [released]


def test_a_reservation_that_has_ended_is_not_revived(client: TestClient):
    client.simulate_put(B1)
    client.simulate_put(f"{B1}/reservation", json={"reservation_id": ID})
    client.simulate_delete(f"{B1}/reservation")

    refusal = client.simulate_put(f"{B1}/reservation", json={"reservation_id": ID})

    detail = f"Reservation {ID} is over: it is released."
    members = {"reservation_id": ID, "state": "released"}
    assert refused(refusal) == as_problem(
        problem("reservation-ended", "The reservation is over", 409, detail, **members)
    )
    assert client.simulate_put(f"{B1}/reservation").status_code == 200


def test_a_sold_item_can_be_neither_reserved_nor_released(client: TestClient):
    sold = client.simulate_put(B1, json={"sold": True})

    refusals = [client.simulate_put(f"{B1}/reservation"), client.simulate_delete(f"{B1}/reservation")]

    assert [refused(refusal) for refusal in refusals] == [as_problem(already_sold())] * 2
    assert client.simulate_get(B1).json == sold.json


def test_a_hold_that_is_over_shows_as_over(client: TestClient, conn: Connection):
    put = client.simulate_put(B1).json
    client.simulate_put(B2)
    held = client.simulate_put(f"{B1}/reservation", json={"reservation_id": ID, "ttl_seconds": 1}).json
    client.simulate_put(f"{B2}/reservation")
    time.sleep(1.1)

    shown = {**put, "version": 3, "updated_at": held["updated_at"]}
    assert client.simulate_get(B1).json == shown
    assert client.simulate_get("/api/non-fungible").json["items"] == [counted("B", 2, reserved=1)]
    listed = client.simulate_get("/api/non-fungible/B").json
    assert (listed["available_count"], listed["reserved_count"], listed["items"][0]) == (1, 1, shown)
    assert client.simulate_get(f"/api/reservations/{ID}").json["state"] == "expired"
    assert len(events(conn)) == 5  # looking at it has written nothing

    revived = client.simulate_put(f"{B1}/reservation", json={"reservation_id": ID})
    assert (revived.status_code, revived.json["type"]) == (409, "/problems/reservation-ended")
    assert client.simulate_put(f"{B1}/reservation", json={"reservation_id": OTHER_ID}).status_code == 200


def test_a_hold_that_ends_makes_a_known_answer_stale(client: TestClient, conn: Connection):
    """The version changes only when the end is written down; until then the answer is another one already."""
    client.simulate_put(B1)
    known = client.simulate_put(f"{B1}/reservation").headers["ETag"]
    conn.execute("UPDATE items SET reserved_until = clock_timestamp()")

    shown = client.simulate_get(B1, headers={"If-None-Match": known})

    assert (shown.status_code, shown.json["reserved"]) == (200, None)
    now_known = shown.headers["ETag"]
    assert client.simulate_get(B1, headers={"If-None-Match": now_known}).status_code == 304
    assert client.simulate_put(B1, json={"color": "Red"}, headers={"If-Match": now_known}).status_code == 200


# What is not there, or is of the other kind


def test_an_unknown_product(client: TestClient):
    refusals = [
        client.simulate_get("/api/non-fungible/Z"),
        client.simulate_get("/api/non-fungible/Z/1"),
        client.simulate_put("/api/non-fungible/Z/1/reservation"),
        client.simulate_delete("/api/non-fungible/Z/1/reservation"),
    ]

    expected = problem("unknown-product", "No such product", 404, "There is no product with SKU 'Z'.", sku="Z")
    assert [refused(refusal) for refusal in refusals] == [as_problem(expected)] * 4
    assert [refusal.headers.get("Ledger-Position") for refusal in refusals] == ["0"] * 4


def test_an_unknown_item(client: TestClient):
    client.simulate_put(B1)

    refusals = [
        client.simulate_get(B2),
        client.simulate_put(f"{B2}/reservation"),
        client.simulate_delete(f"{B2}/reservation"),
    ]

    expected = problem("unknown-item", "No such item", 404, "There is no item '2' of SKU 'B'.", sku="B", sn="2")
    assert [refused(refusal) for refusal in refusals] == [as_problem(expected)] * 3
    assert [refusal.headers.get("Ledger-Position") for refusal in refusals] == ["2"] * 3


def test_a_product_of_the_other_kind(client: TestClient):
    client.simulate_put("/api/fungible/A")

    refusals = [
        client.simulate_get("/api/non-fungible/A"),
        client.simulate_get("/api/non-fungible/A/1"),
        client.simulate_put("/api/non-fungible/A/1", json={"color": "Red"}),
        client.simulate_put("/api/non-fungible/A/1/reservation"),
        client.simulate_delete("/api/non-fungible/A/1/reservation"),
    ]

    title, detail = "The product is of the other kind", "SKU 'A' is a fungible product."
    expected = problem("other-kind", title, 409, detail, sku="A", kind="fungible")
    assert [refused(refusal) for refusal in refusals] == [as_problem(expected)] * 5
    assert [refusal.headers.get("Ledger-Position") for refusal in refusals] == ["1"] * 5


# Headers


def test_every_answer_says_what_it_reflects(client: TestClient):
    put = client.simulate_put(B1)
    held = client.simulate_put(f"{B1}/reservation")
    freed = client.simulate_delete(f"{B1}/reservation")
    shown = client.simulate_get(B1)

    assert [(r.headers["Ledger-Position"], r.headers["ETag"]) for r in (put, held, freed, shown)] == [
        ("2", '"2"'),
        ("3", '"3"'),
        ("4", '"4"'),
        ("4", '"4"'),
    ]
    assert {r.headers["Content-Type"] for r in (put, held, freed, shown)} == {"application/json"}
    lists = [client.simulate_get("/api/non-fungible"), client.simulate_get("/api/non-fungible/B")]
    assert [answer.headers["Ledger-Position"] for answer in lists] == ["4", "4"]


def test_the_callers_request_id_comes_back_and_is_recorded(client: TestClient, conn: Connection):
    answers = [client.simulate_request(m, path, json=body, headers=R) for m, path, body in WRITES]

    assert {answer.headers["X-Request-Id"] for answer in answers} == {"r"}
    assert {event.request_id for event in events(conn)} == {"r"}


def test_a_known_version_is_not_sent_again(client: TestClient):
    put = client.simulate_put(B1)

    for known in ('"2"', 'W/"2"', '"1", "2"', "*"):
        answer = client.simulate_get(B1, headers={"If-None-Match": known})

        assert (answer.status_code, answer.content) == (304, b"")
        assert (answer.headers["ETag"], answer.headers["Ledger-Position"]) == ('"2"', "2")
    other = client.simulate_get(B1, headers={"If-None-Match": '"1"'})
    assert (other.status_code, other.json) == (200, put.json)


def test_a_change_of_the_product_is_a_new_version_of_each_item(client: TestClient):
    known = client.simulate_put(B1).headers["ETag"]
    client.simulate_put(B2, json={"description": "Honda CB750K"})

    answer = client.simulate_get(B1, headers={"If-None-Match": known})

    assert (answer.status_code, answer.json["description"]) == (200, "Honda CB750K")


def test_a_write_is_done_if_the_version_matches(client: TestClient):
    version = client.simulate_put(B1).json["version"]

    for method, path, body in WRITES:
        answer = client.simulate_request(method, path, json=body, headers={"If-Match": f'"1", "{version}"'})

        version += 1
        assert (answer.status_code, answer.json["version"]) == (200, version)
    assert client.simulate_put(B1, json={"color": "Blue"}, headers={"If-Match": "*"}).status_code == 200


def test_a_write_is_refused_if_the_version_does_not_match(client: TestClient):
    put = client.simulate_put(B1)

    for method, path, body in WRITES:
        refusal = client.simulate_request(method, path, json=body, headers={"If-Match": '"1", "3"'})

        detail = refusal.json["detail"]
        expected = problem("precondition-failed", "The precondition does not hold", 412, detail, version=2)
        assert refused(refusal) == as_problem(expected)
        assert refusal.headers["Ledger-Position"] == "2"
        assert "exists already" not in detail  # nobody said that it should not
    assert client.simulate_get(B1).json == put.json


def test_an_item_can_be_put_only_if_it_is_new(client: TestClient):
    client.simulate_put(B1, headers={"If-None-Match": "*"})
    sibling = client.simulate_put(B2, headers={"If-None-Match": "*"})
    again = client.simulate_put(B1, json={"color": "Red"}, headers={"If-None-Match": "*"})

    title = "The precondition does not hold"
    assert sibling.status_code == 200
    assert refused(again) == as_problem(problem("precondition-failed", title, 412, "It exists already.", version=2))
    assert client.simulate_get(B1).json["color"] is None


def test_an_item_can_be_put_only_if_it_is_there(client: TestClient):
    client.simulate_put(B1)

    for match in ("*", '"2"'):
        refusal = client.simulate_put(B2, headers={"If-Match": match})

        detail = refusal.json["detail"]
        expected = problem("precondition-failed", "The precondition does not hold", 412, detail, version=None)
        assert refused(refusal) == as_problem(expected)
    assert client.simulate_get(B2).status_code == 404


def test_a_repeated_write_is_done_once(client: TestClient, conn: Connection):
    client.simulate_put(B1)

    for key, (method, path, body) in enumerate(WRITES):
        headers = {"Idempotency-Key": str(key)}
        first = client.simulate_request(method, path, json=body, headers=headers)
        client.simulate_put(B1, json={"notes": str(key)})
        again = client.simulate_request(method, path, json=body, headers=headers)

        assert (again.status_code, again.json) == (first.status_code, first.json) == (200, first.json)
        assert [r.headers.get("Idempotent-Replayed") for r in (first, again)] == [None, "true"]
        assert again.headers["Ledger-Position"] == first.headers["Ledger-Position"]
        assert again.headers["ETag"] == first.headers["ETag"]
    assert len(events(conn)) == 2 + 2 * len(WRITES)


def test_a_key_cannot_be_used_with_another_request(client: TestClient):
    client.simulate_put(B1, json={"color": "Red"}, headers={"Idempotency-Key": "k"})

    refusals = [
        client.simulate_request(method, path, json=body, headers={"Idempotency-Key": "k"})
        for method, path, body in [("PUT", B1, {"color": "Blue"}), ("PUT", B2, {"color": "Red"}), WRITES[1], WRITES[2]]
    ]

    title, detail = "The key was used with another request", "This Idempotency-Key was used with another request."
    expected = problem("idempotency-key-reused", title, 422, detail, idempotency_key="k")
    assert [refused(refusal) for refusal in refusals] == [as_problem(expected)] * 4
    assert client.simulate_get(B1).json["color"] == "Red"


def test_another_method_is_another_request(client: TestClient):
    client.simulate_put(B1)
    client.simulate_put(f"{B1}/reservation", headers={"Idempotency-Key": "k"})

    refusal = client.simulate_delete(f"{B1}/reservation", headers={"Idempotency-Key": "k"})

    assert (refusal.status_code, refusal.json["type"]) == (422, "/problems/idempotency-key-reused")
    assert client.simulate_get(B1).json["reserved"] is not None


def test_a_wrong_method_is_told_the_right_ones(client: TestClient):
    right = {
        "/api/non-fungible": {"GET"},
        "/api/non-fungible/B": {"GET"},
        B1: {"GET", "PUT"},
        f"{B1}/reservation": {"PUT", "DELETE"},
    }
    wrong = [(m, path) for path in right for m in ("GET", "POST", "PUT", "PATCH", "DELETE") if m not in right[path]]

    refusals = {(method, path): client.simulate_request(method, path) for method, path in wrong}

    told = {path: set(refusals[method, path].headers["Allow"].split(", ")) for method, path in wrong}
    assert {path: methods - {"OPTIONS", "HEAD"} for path, methods in told.items()} == right
    expected = problem("method-not-allowed", "Method Not Allowed", 405, "Method Not Allowed.")
    assert [refused(refusal) for refusal in refusals.values()] == [as_problem(expected)] * len(wrong)


# Lists


def put_all(ledger: Ledger, keys: list[tuple[str, str]]) -> None:
    ledger.handle_many([PutItem(sku=sku, sn=sn, purchase_id=PURCHASE_ID) for sku, sn in keys])


def pages(client: TestClient, path: str, limit: int) -> list[dict]:
    """Follow the cursors to the end."""
    found, cursor = [], ""
    while cursor is not None:
        answer = client.simulate_get(path, params={"limit": limit} | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200
        found.append(answer.json)
        cursor = answer.json["next_cursor"]
        assert len(found) < 10, "the cursors lead nowhere"
    return found


def test_an_empty_list(client: TestClient):
    answer = client.simulate_get("/api/non-fungible")

    assert (answer.status_code, answer.json) == (200, {"items": [], "next_cursor": None})
    assert answer.headers["Ledger-Position"] == "0"


def test_the_list_holds_non_fungible_products_with_counts_of_their_items(client: TestClient):
    client.simulate_put("/api/fungible/A")
    client.simulate_put("/api/non-fungible/c/1", json=HONDA)
    for sn in "1234":
        client.simulate_put(f"/api/non-fungible/B/{sn}")
    client.simulate_put("/api/non-fungible/B/1", json={"sold": True})
    for sn in "23":
        client.simulate_put(f"/api/non-fungible/B/{sn}/reservation")

    answer = client.simulate_get("/api/non-fungible")

    of_the_product = {name: HONDA[name] for name in ("name", "description", "shipping_weight_grams")}
    expected = [counted("B", 4, reserved=2, sold=1), counted("c", 1, **of_the_product)]
    assert (answer.status_code, answer.json) == (200, {"items": expected, "next_cursor": None})


def test_a_product_is_listed_with_its_items_in_order_of_their_serial_number(client: TestClient):
    shown = {sn: client.simulate_put(f"/api/non-fungible/B/{quote(sn)}", json=HONDA).json for sn in ("b", "é", "B")}
    client.simulate_put("/api/non-fungible/C/1")
    held = client.simulate_put("/api/non-fungible/B/b/reservation").json

    answer = client.simulate_get("/api/non-fungible/B")

    of_the_product = {name: HONDA[name] for name in ("name", "description", "shipping_weight_grams")}
    items = [shown["B"], held, shown["é"]]
    expected = counted("B", 3, reserved=1, items=items, next_cursor=None, **of_the_product)
    assert (answer.status_code, answer.json) == (200, expected)


def test_pages_of_products_follow_each_other_to_the_end(client: TestClient, ledger: Ledger):
    put_all(ledger, [(sku, sn) for sku in ("D", "a b", 'B"%', "é") for sn in "12"])

    for limit, sizes in ((1, [1, 1, 1, 1]), (2, [2, 2]), (3, [3, 1]), (4, [4]), (5, [4])):
        found = [page["items"] for page in pages(client, "/api/non-fungible", limit)]

        assert [len(page) for page in found] == sizes
        assert [(p["sku"], p["item_count"]) for page in found for p in page] == [
            ('B"%', 2),
            ("D", 2),
            ("a b", 2),
            ("é", 2),
        ]


def test_pages_of_items_follow_each_other_to_the_end_with_the_counts_of_all(client: TestClient, ledger: Ledger):
    put_all(ledger, [("B", sn) for sn in ("D", "a b", 'B"%', "é")] + [("C", "1")])

    for limit, sizes in ((1, [1, 1, 1, 1]), (2, [2, 2]), (3, [3, 1]), (4, [4]), (5, [4])):
        found = pages(client, "/api/non-fungible/B", limit)

        assert [len(page["items"]) for page in found] == sizes
        assert [page["item_count"] for page in found] == [4] * len(sizes)
        assert [shown["sn"] for page in found for shown in page["items"]] == ['B"%', "D", "a b", "é"]


def test_a_page_has_100_items_by_default_and_500_at_most(client: TestClient, ledger: Ledger):
    put_all(ledger, [("B", f"{number:03}") for number in range(501)])

    assert len(client.simulate_get("/api/non-fungible/B").json["items"]) == 100
    assert [len(page["items"]) for page in pages(client, "/api/non-fungible/B", 500)] == [500, 1]


def test_a_page_has_100_products_by_default_and_500_at_most(client: TestClient, ledger: Ledger):
    put_all(ledger, [(f"{number:03}", "1") for number in range(501)])

    assert len(client.simulate_get("/api/non-fungible").json["items"]) == 100
    assert [len(page["items"]) for page in pages(client, "/api/non-fungible", 500)] == [500, 1]


# Names


def test_odd_names_are_fine(client: TestClient):
    names = ["reservation", "BANK CHARGES", "100%", "%2F", "a'b\"c\\d", "a+b&c=d;e?f#g", "..", "日本語😀", "é" * 100]

    for sku, sn in zip(names, reversed(names), strict=True):
        path = f"/api/non-fungible/{quote(sku, safe='')}/{quote(sn, safe='')}"
        put = client.simulate_put(path, extras={"REQUEST_URI": path})
        held = client.simulate_put(f"{path}/reservation", json={}, extras={"REQUEST_URI": f"{path}/reservation"})

        assert put.json == item(sku, sn, 2, put.json["updated_at"])
        assert held.json["reserved"] == held.json["updated_at"]
        assert client.simulate_get(path).json == held.json
        assert client.simulate_get(f"/api/non-fungible/{quote(sku, safe='')}").json["items"] == [held.json]


def test_white_space_around_names_is_trimmed(client: TestClient):
    put = client.simulate_put(B1)

    for path in ("%20B/1", "B/1%20%20", "%C2%A0B%E3%80%80/%0A1", "%20" * 50 + "B" + "%20" * 51 + "/1"):
        assert client.simulate_get(f"/api/non-fungible/{path}").json == put.json
    assert client.simulate_get("/api/non-fungible/%20B%20").json["items"] == [put.json]


def test_names_are_case_sensitive(client: TestClient):
    client.simulate_put("/api/non-fungible/B/a")

    assert client.simulate_get("/api/non-fungible/b/a").json["type"] == "/problems/unknown-product"
    assert client.simulate_get("/api/non-fungible/B/A").json["type"] == "/problems/unknown-item"


def test_names_have_at_most_100_characters(client: TestClient):
    longest = f"/api/non-fungible/{'x' * 100}/{'y' * 100}"

    assert client.simulate_put(longest).json["sn"] == "y" * 100
    assert client.simulate_put(f"{longest}/reservation").status_code == 200
    assert client.simulate_put(f"{longest}y").json["errors"] == {"sn": "must have at most 100 characters"}
    assert client.simulate_put(f"/api/non-fungible/{'x' * 101}/1").json["errors"].keys() == {"sku"}
