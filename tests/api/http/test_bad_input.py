"""Whatever a caller sends, the answer is a problem that says what is wrong, and nothing has changed."""

import base64
import json
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple
from wsgiref.validate import WSGIWarning

import pytest
from falcon.testing import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.app import create_app
from api.http.problems import PROBLEMS
from api.http.service import Service
from ledger.engine.committer import DefectError
from ledger.engine.ledger import Ledger
from ledger.errors import (
    BusyError,
    DatabaseAwayError,
    LedgerError,
    OutcomeUnknownError,
    UnavailableError,
    UnreadableEventError,
)
from ledger.rooms import ROOMS
from ledger.store.migrate import migrate
from projections import reader as reader_module
from projections.inline import InlineReadModels
from projections.reader import Reader
from tests.conftest import drop_ledger

MIB = 1_048_576
ID = "00000000-0000-4000-8000-000000000001"
A = "/api/fungible/A"
B1 = "/api/non-fungible/B/1"
TITLES = {
    "invalid": "The request is well-formed but invalid",
    "bad-request": "The body is not JSON",
    "body-too-large": "Content Too Large",
    "not-json": "Unsupported Media Type",
}


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[TestClient]:
    """One application for the whole table, because nothing in it may change; it holds product A and item 1 of B."""
    schema = f"test_{uuid.uuid4().hex[:12]}"
    migrate(postgres_url, schema)
    ledger = Ledger(postgres_url, schema, ROOMS, InlineReadModels())
    reader = Reader(postgres_url, schema, max_connections=2)
    client = TestClient(create_app(Service(ledger, reader, 3600)))
    client.simulate_put(A, json={"amount_in_stock": 5})
    client.simulate_put(B1, json={"color": "Red"})
    yield client
    ledger.close()
    reader.close()
    drop_ledger(postgres_url, schema)


def state(shop: TestClient) -> list[tuple[Any, str]]:
    """All that there is, and the position it reflects."""
    answers = [shop.simulate_get(path) for path in ("/api/fungible", "/api/non-fungible/B", "/api/reservations")]
    return [(answer.json, answer.headers["Ledger-Position"]) for answer in answers]


@pytest.fixture(scope="module")
def seen(shop: TestClient) -> dict[str, Any]:
    """The state as it was last seen, so that each request is compared with what was there before it."""
    return {"state": state(shop)}


def has_changed(shop: TestClient, seen: dict[str, Any]) -> bool:
    before, seen["state"] = seen["state"], state(shop)
    return before != seen["state"]


class Bad(NamedTuple):
    """A request, and how it is to be refused; `named` are the members that the refusal has to name."""

    method: str
    path: str
    status: int
    slug: str
    named: tuple[str, ...]
    more: dict[str, Any]


def invalid(method: str, path: str, *named: str, **more: Any) -> Bad:
    return Bad(method, path, 422, "invalid", named, more)


def not_json(body: bytes, method: str = "PUT", path: str = A) -> Bad:
    return Bad(method, path, 400, "bad-request", (), {"body": body})


def member(text: str, *named: str) -> Bad:
    """A body of PUT for A."""
    return invalid("PUT", A, *named, body=text.encode())


def reserve(body: dict[str, Any], *named: str) -> Bad:
    return invalid("POST", f"{A}/reserve/1", *named, json=body)


def item(body: dict[str, Any], *named: str) -> Bad:
    return invalid("PUT", B1, *named, json=body)


def header(name: str, value: str) -> Bad:
    return invalid("PUT", A, name, json={"color": "Blue"}, headers={name: value})


def media_type(value: str) -> Bad:
    return Bad("PUT", A, 415, "not-json", (), {"body": b'{"color":"Blue"}', "headers": {"Content-Type": value}})


def cursor(content: str, path: str = "/api/fungible") -> Bad:
    encoded = base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")
    return invalid("GET", path, "cursor", params={"cursor": encoded})


def on_the_wire(method: str, target: str, path_info: str) -> Bad:
    """A request target as it arrives, and the path that the server makes of it."""
    return invalid(method, "/", "path", extras={"REQUEST_URI": target, "PATH_INFO": path_info})


BODIES = {
    "nothing but white space": not_json(b" "),
    "half an object": not_json(b"{"),
    "half an object with a bad member": not_json(b'{"color":1,'),
    "a bad member before nonsense": not_json(b'{"color":1,"name":}'),
    "an unknown member before nonsense": not_json(b'{"size":1,"name":}'),
    "half a list": not_json(b"[1"),
    "something after the end": not_json(b'{"color":"Blue"} x'),
    "something after the end of a bad one": not_json(b'{"color":1} x'),
    "single quotes": not_json(b"{'color':'Blue'}"),
    "a trailing comma": not_json(b'{"color":"Blue",}'),
    "a byte order mark": not_json(b'\xef\xbb\xbf{"color":"Blue"}'),
    "UTF-16": not_json('{"color":"Blue"}'.encode("utf-16")),
    "Latin-1": not_json('{"color":"Grün"}'.encode("latin-1")),
    "Latin-1 in an unknown member": not_json('{"size":"Grün"}'.encode("latin-1")),
    "Latin-1 in a list": not_json('["Grün"]'.encode("latin-1")),
    "an encoded surrogate": not_json(b'{"color":"\xed\xa0\x80"}'),
    "a lone surrogate": not_json(b'{"color":"\\ud800"}'),
    "a lone surrogate in an unknown member": not_json(b'{"size":"\\ud800"}'),
    "a lone surrogate in a name": not_json(b'{"\\udfff":1}'),
    "NaN": not_json(b'{"amount_in_stock":NaN}'),
    "NaN after a bad member": not_json(b'{"color":1,"amount_in_stock":NaN}'),
    "Infinity": not_json(b'{"amount_in_stock":-Infinity}'),
    "a leading zero": not_json(b'{"amount_in_stock":01}'),
    "half an object for a reservation": not_json(b"{", "POST", f"{A}/reserve/1"),
    "half an object for a release": not_json(b"{", "DELETE", f"{B1}/reservation"),
    "half an object for a new product": not_json(b"{", "POST", "/api/fungible"),
    "a list": member("[]", "body"),
    "null": member("null", "body"),
    "a string": member('"x"', "body"),
    "a number": member("1", "body"),
    "a list for a reservation": invalid("PUT", f"{B1}/reservation", "body", body=b"[]"),
    "more than 1 MiB": Bad("PUT", A, 413, "body-too-large", (), {"body": b'{"color":"Blue"}' + b" " * (MIB - 15)}),
    "plain text": media_type("text/plain"),
    "a form": media_type("application/x-www-form-urlencoded"),
    "another kind of JSON": media_type("application/problem+json"),
    "no media type": media_type("json"),
}
# No reader of JSON has to take what is well-formed but beyond all sense, so 400 and 422 are both fine.
EXTREMES = {
    "a list of 100,000 lists": b"[" * 100_000 + b"]" * 100_000,
    "100,000 lists in a member": b'{"color":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 lists in an unknown member": b'{"size":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 objects that never end": b'{"color":' * 100_000,
    "5,000 digits": b'{"amount_in_stock":' + b"9" * 5_000 + b"}",
    "5,000 digits in an unknown member": b'{"size":' + b"9" * 5_000 + b"}",
    "a number that no float holds": b'{"amount_in_stock":1e400}',
    "a number alone that no float holds": b"1e400",
    "10,000 unknown members": json.dumps(dict.fromkeys(map(str, range(10_000)), 1)).encode(),
}
MEMBERS = {
    "an unknown member": member('{"size":1}', "size"),
    "a member of the answer": member('{"sku":"A","version":1}', "sku", "version"),
    "an empty name of a member": member('{"":1}', ""),
    "all that is wrong at once": member(
        '{"size":1,"color":3,"amount_in_stock":-1,"unit_price_cents":1.5,"weight":2,"name":"fine"}',
        "size",
        "color",
        "amount_in_stock",
        "unit_price_cents",
        "weight",
    ),
    "a negative amount": member('{"amount_in_stock":-1}', "amount_in_stock"),
    "an amount beyond the limit": member('{"amount_in_stock":9007199254740992}', "amount_in_stock"),
    "a price beyond the limit": member('{"unit_price_cents":9007199254740992}', "unit_price_cents"),
    "a weight beyond the limit": member('{"shipping_weight_grams":9007199254740992}', "shipping_weight_grams"),
    "an amount beyond 64 bits": member('{"amount_in_stock":18446744073709551616}', "amount_in_stock"),
    "an amount far below 64 bits": member('{"amount_in_stock":-' + "9" * 400 + "}", "amount_in_stock"),
    "a fraction": member('{"amount_in_stock":1.5}', "amount_in_stock"),
    "a whole number as a fraction": member('{"amount_in_stock":1.0}', "amount_in_stock"),
    "a whole number as an exponent": member('{"amount_in_stock":1e3}', "amount_in_stock"),
    "a number as text": member('{"amount_in_stock":"1"}', "amount_in_stock"),
    "true for a number": member('{"amount_in_stock":true}', "amount_in_stock"),
    "null for a number": member(
        '{"amount_in_stock":null,"unit_price_cents":null}', "amount_in_stock", "unit_price_cents"
    ),
    "a list for a number": member('{"amount_in_stock":[1]}', "amount_in_stock"),
    "a number for a text": member('{"color":1}', "color"),
    "an object for a text": member('{"color":{}}', "color"),
    "a text with NUL": member('{"color":"a\\u0000b"}', "color"),
    "a text that is too long": member('{"color":"' + "é" * 10_001 + '"}', "color"),
    "a reason for putting": member('{"reason":"x"}', "reason"),
    "a SKU for a new product": invalid("POST", "/api/fungible", "sku", json={"sku": "X"}),
    "an owner for adding": invalid("POST", f"{A}/add/1", "owner", json={"owner": "x"}),
    "a number for a reason": invalid("POST", f"{A}/remove/1", "reason", json={"reason": 1}),
    "an owner for releasing": invalid("DELETE", f"{B1}/reservation", "owner", json={"owner": "x"}),
    "a duration of nothing": reserve({"ttl_seconds": 0}, "ttl_seconds"),
    "a negative duration": reserve({"ttl_seconds": -1}, "ttl_seconds"),
    "a duration of more than thirty days": reserve({"ttl_seconds": 2_592_001}, "ttl_seconds"),
    "null for a duration": reserve({"ttl_seconds": None}, "ttl_seconds"),
    "true for a duration": reserve({"ttl_seconds": True}, "ttl_seconds"),
    "a duration as text": reserve({"ttl_seconds": "60"}, "ttl_seconds"),
    "a fraction of a second": reserve({"ttl_seconds": 1.5}, "ttl_seconds"),
    "a deadline": reserve({"expires_at": "2027-01-01T00:00:00Z"}, "expires_at"),
    "an id that is no UUID": reserve({"reservation_id": "7"}, "reservation_id"),
    "an empty id": reserve({"reservation_id": ""}, "reservation_id"),
    "a number for an id": reserve({"reservation_id": 7}, "reservation_id"),
    "an id that is too long": reserve({"reservation_id": ID + "0"}, "reservation_id"),
    "an id in braces": reserve({"reservation_id": "{" + ID + "}"}, "reservation_id"),
    "a number for an owner": reserve({"owner": 1}, "owner"),
    "an owner with NUL": reserve({"owner": "a\0"}, "owner"),
    "an owner that is too long": reserve({"owner": "x" * 10_001}, "owner"),
    "a reference that is too long": reserve({"reference": "x" * 10_001}, "reference"),
    "a bad id and a bad duration": reserve({"reservation_id": "x", "ttl_seconds": 0}, "reservation_id", "ttl_seconds"),
    "a bad duration for an item": invalid("PUT", f"{B1}/reservation", "ttl_seconds", json={"ttl_seconds": 0}),
    "a number for sold": item({"sold": 1}, "sold"),
    "a text for sold": item({"sold": "true"}, "sold"),
    "null for sold": item({"sold": None}, "sold"),
    "a negative price": item({"price_cents": -1}, "price_cents"),
    "null for a price": item(
        {"price_cents": None, "shipping_weight_grams": None}, "price_cents", "shipping_weight_grams"
    ),
    "notes that are too long": item({"notes": "x" * 10_001}, "notes"),
    "members of the other kind": item(
        {"amount_in_stock": 1, "unit_price_cents": 1}, "amount_in_stock", "unit_price_cents"
    ),
    "a time for reserved": item({"reserved": None}, "reserved"),
}
HEADERS = {
    "a version without quotes": header("If-Match", "2"),
    "half a version": header("If-Match", '"2'),
    "an empty version": header("If-Match", '""'),
    "a version that is no number": header("If-Match", '"two"'),
    "a negative version": header("If-Match", '"-2"'),
    "a version of twenty digits": header("If-Match", '"99999999999999999999"'),
    "a weak version": header("If-Match", 'W/"2"'),
    "versions without a comma": header("If-Match", '"2" "3"'),
    "versions and a star": header("If-Match", '"2", *'),
    "no version": header("If-Match", ""),
    "a version that must not match": header("If-None-Match", '"2"'),
    "two preconditions": invalid("PUT", A, "If-Match", headers={"If-Match": '"2"', "If-None-Match": "*"}),
    "an empty key": header("Idempotency-Key", ""),
    "a key with a space": header("Idempotency-Key", "a b"),
    "a key beyond ASCII": header("Idempotency-Key", "é"),
    "a key with a control character": header("Idempotency-Key", "a\x7f"),
    "a key of 256 characters": header("Idempotency-Key", "x" * 256),
    "a bad key for a reservation": invalid(
        "PUT", f"{B1}/reservation", "Idempotency-Key", headers={"Idempotency-Key": ""}
    ),
    "a bad precondition for a release": invalid("DELETE", f"{B1}/reservation", "If-Match", headers={"If-Match": "x"}),
}
QUANTITIES = [
    "0",
    "-1",
    "+1",
    "1.0",
    "1e3",
    "x",
    "9007199254740992",
    "9" * 17,
    "9" * 5_000,
    "1%20",
    "%D9%A1",
    "",
    "1_0",
]
PATHS = {
    **{
        f"{verb} {quantity[:20]!r}": invalid("POST", f"{A}/{verb}/{quantity}", "quantity")
        for verb in ("add", "remove", "reserve")
        for quantity in QUANTITIES
    },
    "an empty SKU": invalid("PUT", "/api/fungible/", "sku"),
    "a SKU of white space": invalid("PUT", "/api/fungible/%20%E3%80%80", "sku"),
    "a SKU of 101 characters": invalid("PUT", "/api/fungible/" + "%C3%A9" * 101, "sku"),
    "a SKU with NUL": invalid("PUT", "/api/fungible/a%00b", "sku"),
    "a SKU with a line feed": invalid("PUT", "/api/fungible/a%0Ab", "sku"),
    "a SKU with DEL": invalid("PUT", "/api/fungible/a%7Fb", "sku"),
    "a SKU with a C1 control character": invalid("PUT", "/api/fungible/a%C2%9Fb", "sku"),
    "an empty serial number": invalid("PUT", "/api/non-fungible/B/", "sn"),
    "a serial number of 101 characters": invalid("PUT", "/api/non-fungible/B/" + "x" * 101, "sn"),
    "a serial number with NUL": invalid("PUT", "/api/non-fungible/B/a%00/reservation", "sn"),
    "a bad SKU to look at": invalid("GET", "/api/fungible/a%00b", "sku"),
    "a bad SKU to add to": invalid("POST", "/api/fungible/a%00b/add/1", "sku"),
    "a bad SKU to list": invalid("GET", "/api/non-fungible/a%00b", "sku"),
    "an encoded slash": on_the_wire("PUT", "/api/fungible/a%2Fb", "/api/fungible/a/b"),
    "an encoded command": on_the_wire("POST", "/api/fungible/A%2Fadd%2F5", f"{A}/add/5"),
    "an encoded slash in lower case": on_the_wire("POST", "/api/fungible/A%2fadd%2f5", f"{A}/add/5"),
    "an encoded slash in a serial number": on_the_wire(
        "DELETE", "/api/non-fungible/B/1%2Freservation", f"{B1}/reservation"
    ),
    "a path that is not UTF-8": on_the_wire("PUT", "/api/fungible/a%FFb", "/api/fungible/a\xffb"),
    "a path with an encoded surrogate": on_the_wire("PUT", "/api/fungible/%ED%A0%80", "/api/fungible/\xed\xa0\x80"),
    "a path in Latin-1": on_the_wire("GET", "/api/fungible/%FC", "/api/fungible/\xfc"),
}
LISTS = ("/api/fungible", "/api/non-fungible", "/api/non-fungible/B", "/api/reservations")
QUERIES = {
    **{
        f"limit={limit} for {path}": invalid("GET", f"{path}?limit={limit}", "limit")
        for path in LISTS
        for limit in ("0", "501", "-1", "1.0", "x", "", "99999", "%D9%A1")
    },
    **{f"unknown parameters for {path}": invalid("GET", f"{path}?size=1&Limit=2", "size", "Limit") for path in LISTS},
    "an unknown parameter for a product": invalid("GET", f"{A}?limit=1", "limit"),
    "an unknown parameter for an item": invalid("GET", f"{B1}?cursor=x", "cursor"),
    "an unknown parameter for a write": invalid("PUT", f"{A}?dry_run=true", "dry_run"),
    "a condition on what is not there yet": invalid("POST", "/api/fungible", "If-Match", headers={"If-Match": '"1"'}),
    "an unknown parameter without a value": invalid("GET", f"{A}?pretty", "pretty"),
    **{
        f"cursor={text!r} for {path}": invalid("GET", path, "cursor", params={"cursor": text})
        for path in LISTS
        for text in ("", "!", "A", "é")
    },
    **{
        f"a cursor of {content!r} for {path}": cursor(content, path)
        for path in LISTS[:3]
        for content in ("1", "null", "[]", '{"a":1}', '"A', '"\\ud800"', '"\\u0000"', '"a\\u0000b"')
    },
    **{
        f"a cursor of {content[:20]!r} for {LISTS[3]}": cursor(content, LISTS[3])
        for content in ('"A"', "null", "1.5", "true", "9" * 5_000, "1e400", "[" * 100_000)
    },
    "an unknown state": invalid("GET", "/api/reservations?state=over", "state"),
    "a bad SKU to look for": invalid("GET", "/api/reservations?sku=a%00", "sku"),
    "an owner with NUL to look for": invalid("GET", "/api/reservations?owner=%00", "owner"),
}
TABLE = {**BODIES, **MEMBERS, **HEADERS, **PATHS, **QUERIES}


@pytest.mark.parametrize("bad", TABLE.values(), ids=TABLE.keys())
def test_a_bad_request_is_a_problem_and_changes_nothing(shop: TestClient, seen: dict[str, Any], bad: Bad):
    answer = shop.simulate_request(bad.method, bad.path, **bad.more)

    assert (answer.status_code, answer.headers["Content-Type"]) == (bad.status, "application/problem+json")
    assert answer.headers["X-Request-Id"]
    whole = answer.json
    assert set(whole.get("errors", ())) == set(bad.named)
    wrong = {"errors": whole["errors"]} if bad.named else {}
    detail = "; ".join(f"{name} {must}" for name, must in wrong["errors"].items()) if bad.named else whole["detail"]
    fixed = {"type": f"/problems/{bad.slug}", "title": TITLES[bad.slug], "status": bad.status}
    assert whole == {**fixed, "detail": detail, **wrong}
    assert len(detail) > 10
    assert not has_changed(shop, seen)


@pytest.mark.parametrize("body", EXTREMES.values(), ids=EXTREMES.keys())
def test_a_body_beyond_all_sense_is_a_problem_too(shop: TestClient, seen: dict[str, Any], body: bytes):
    for method, path in [("PUT", A), ("POST", f"{A}/reserve/1"), ("DELETE", f"{B1}/reservation")]:
        answer = shop.simulate_request(method, path, body=body)

        assert answer.json["type"] in ("/problems/bad-request", "/problems/invalid")
        assert answer.status_code == answer.json["status"] == (400 if "bad" in answer.json["type"] else 422)
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert not has_changed(shop, seen)


@settings(
    max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    body=st.builds(
        lambda text, at, noise: text[:at] + noise + text[at:],
        st.sampled_from([b'{"color":"Blue","amount_in_stock":7}', b'{"size":[1,{"a":null}],"color":1.5e3}', b"[]"]),
        st.integers(0, 40),
        st.sampled_from([b",", b"}", b'"', b"\\u", b"\xff", b"[", b"-", b"1e999", b"9" * 5_000, b"\x00"]) | st.binary(),
    )
)
def test_a_damaged_body_is_never_a_defect(shop: TestClient, body: bytes):
    answer = shop.simulate_put("/api/fungible/damaged", body=body, headers={"If-Match": '"1"'})

    assert answer.status_code in (400, 412, 422), body  # 412: still in order, so the precondition is looked at


# What is odd, but fine


def test_a_body_of_1_mib_is_taken(shop: TestClient):
    body = b'{"color":null}'

    answer = shop.simulate_put(A, body=body + b" " * (MIB - len(body)))

    assert answer.status_code == 200


@pytest.mark.parametrize("value", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/json ;x=y"])
def test_json_may_be_called_so_in_several_ways(shop: TestClient, value: str):
    assert shop.simulate_put(A, body=b"{}", headers={"Content-Type": value}).status_code == 200


def test_the_media_type_of_nothing_does_not_matter(shop: TestClient):
    assert shop.simulate_put(A, headers={"Content-Type": "text/plain"}).status_code == 200


def test_the_body_of_a_get_does_not_matter(shop: TestClient):
    assert shop.simulate_get(A, body=b"{", headers={"Content-Type": "text/plain"}).status_code == 200


def test_texts_may_be_empty_or_hold_10000_characters_of_any_plane(client: TestClient):
    client.simulate_put(A, json={"name": "", "color": "\x01\n", "description": "😀" * 10_000})

    shown = client.simulate_get(A).json
    assert (shown["name"], shown["color"], shown["description"]) == ("", "\x01\n", "😀" * 10_000)


def test_an_escaped_pair_of_surrogates_is_one_character(client: TestClient):
    assert client.simulate_put(A, body=b'{"color":"\\ud83d\\ude00"}').json["color"] == "😀"


def test_of_a_member_that_is_given_twice_the_last_counts_and_each_must_be_fine(client: TestClient):
    fine = client.simulate_put(A, body=b'{"color":"Blue","color":"Red"}')
    bad = [client.simulate_put(A, body=body) for body in (b'{"color":1,"color":"Blue"}', b'{"color":"Blue","color":1}')]

    assert (fine.status_code, fine.json["color"]) == (200, "Red")
    assert [(answer.status_code, answer.json["type"]) for answer in bad] == [(422, "/problems/invalid")] * 2
    assert client.simulate_get(A).json == fine.json


def test_an_id_may_be_written_without_hyphens_and_in_capitals(client: TestClient):
    client.simulate_put(A, json={"amount_in_stock": 5})
    first = client.simulate_post(f"{A}/reserve/1", json={"reservation_id": ID})

    same = client.simulate_post(f"{A}/reserve/1", json={"reservation_id": ID.replace("-", "").upper()})

    assert first.json["reservation"]["id"] == ID
    assert same.json == first.json


def test_an_encoded_slash_in_the_query_is_no_part_of_the_path(shop: TestClient):
    answer = shop.simulate_get("/api/reservations?owner=a%2Fb", extras={"REQUEST_URI": "/api/reservations?owner=a%2Fb"})

    assert (answer.status_code, answer.json["items"]) == (200, [])


# The table of problems


def concrete(error: type[LedgerError]) -> Iterator[type[LedgerError]]:
    """The classes below `error` that nothing is derived from."""
    below = [sub for sub in error.__subclasses__() if sub.__module__.startswith(("ledger.", "api."))]
    for sub in below:
        yield from concrete(sub)
    if not below:
        yield error


def test_every_error_has_a_status_and_a_slug_of_its_own():
    internal = {UnreadableEventError, DefectError}

    assert set(PROBLEMS) == set(concrete(LedgerError)) - internal
    assert len({slug for _, slug, _ in PROBLEMS.values()}) == len(PROBLEMS)
    # Clients test for these, so they never change.
    assert {slug: status for status, slug, _ in PROBLEMS.values()} == {
        "unauthorized": 401,
        "forbidden": 403,
        "foreign-page": 403,
        "rate-limited": 429,
        "issuer-away": 503,
        "invalid": 422,
        "unknown-product": 404,
        "unknown-item": 404,
        "unknown-reservation": 404,
        "other-kind": 409,
        "insufficient-stock": 409,
        "ahead-of-log": 409,
        "other-history": 409,
        "stock-limit": 409,
        "already-reserved": 409,
        "already-sold": 409,
        "reservation-id-taken": 409,
        "reservation-ended": 409,
        "not-held": 409,
        "abandoned": 409,
        "precondition-failed": 412,
        "idempotency-key-reused": 422,
        "busy": 503,
        "database-away": 503,
        "outcome-unknown": 503,
    }


@pytest.mark.parametrize(
    "error",
    [RuntimeError("a secret"), KeyError("a secret"), UnreadableEventError("a secret", "a secret"), DefectError()],
)
def test_a_defect_is_told_without_its_reason(
    client: TestClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def fail(command: object) -> None:
        raise error

    monkeypatch.setattr(ledger, "handle", fail)

    answer = client.simulate_put(A)

    assert (answer.status_code, answer.headers["Content-Type"]) == (500, "application/problem+json")
    assert answer.json == {
        "type": "/problems/internal-error",
        "title": "Internal error",
        "status": 500,
        "detail": "The service failed; this has been logged.",
    }
    assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize("error", [BusyError(), DatabaseAwayError(), OutcomeUnknownError()])
def test_what_is_not_possible_now_says_when_to_come_back(
    client: TestClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, error: UnavailableError
):
    def fail(command: object) -> None:
        raise error

    monkeypatch.setattr(ledger, "handle", fail)

    answer = client.simulate_put(A)

    status, slug, title = PROBLEMS[type(error)]
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json == {"type": f"/problems/{slug}", "title": title, "status": status, "detail": str(error)}


def test_more_than_the_queue_holds_is_refused_as_busy(
    client: TestClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ledger._committer.batcher, "max_waiting", 0)

    answer = client.simulate_put(A)

    assert (answer.status_code, answer.json["type"]) == (503, "/problems/busy")
    assert client.simulate_get("/api/fungible").json["items"] == []


def test_without_a_database_there_is_still_an_answer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reader_module, "WAIT_SECONDS", 0.2)
    nowhere = "postgresql://127.0.0.1:1/nowhere"
    ledger, reader = (
        Ledger(nowhere, "nowhere", ROOMS, InlineReadModels()),
        Reader(nowhere, "nowhere", max_connections=1),
    )
    client = TestClient(create_app(Service(ledger, reader, 3600)))

    answers = [client.simulate_put(A), client.simulate_get(A), client.simulate_get("/api/non-fungible")]
    ledger.close()
    reader.close()

    assert [(answer.status_code, answer.json["type"]) for answer in answers] == [(503, "/problems/database-away")] * 3
    assert {answer.headers["Retry-After"] for answer in answers} == {"1"}
    assert {answer.headers["Content-Type"] for answer in answers} == {"application/problem+json"}


def test_a_method_that_http_does_not_know_is_a_wrong_method(client: TestClient):
    with pytest.warns(WSGIWarning):  # of the tests' own WSGI checker
        answer = client.simulate_request("FOO", A)

    assert (answer.status_code, answer.json["type"]) == (405, "/problems/method-not-allowed")
    assert "GET" in answer.headers["Allow"]


def test_a_member_that_is_there_twice_is_named_if_the_first_is_bad(client: TestClient):
    body = b'{"color": 1, "color": "Red"}'

    answer = client.simulate_put(A, body=body, headers={"Content-Type": "application/json"})

    assert (answer.status_code, list(answer.json["errors"])) == (422, ["color"])


def test_load_balancers_may_ask_with_head(client: TestClient):
    assert [client.simulate_head(f"/health/{name}").status_code for name in ("live", "ready")] == [200, 200]
