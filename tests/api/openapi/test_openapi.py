"""/openapi.json says what the service does: every route and no other, every problem, and examples that hold."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jsonschema
import msgspec
import pytest
from falcon.testing import TestClient
from hypothesis import example, given
from hypothesis import strategies as st
from openapi_spec_validator import validate

from api.access.scopes import ForbiddenError, ForeignPageError, IssuerAwayError, RateLimitedError, UnauthorizedError
from api.app import ROUTES
from api.http.problems import HTTP_SLUGS, OTHERS, PROBLEMS, problem_of
from api.http.routes import OPEN, Route
from api.openapi.document import UndocumentedError, document, path_of
from api.server.responses import REFUSALS
from ledger.catalogue.errors import OtherKindError, UnknownProductError
from ledger.errors import (
    AbandonedError,
    AheadOfLogError,
    BusyError,
    DatabaseAwayError,
    InvalidError,
    KeyReusedError,
    LedgerError,
    OtherHistoryError,
    OutcomeUnknownError,
    PreconditionFailedError,
)
from ledger.identifiers import NAMED, identifier
from ledger.items.errors import ItemHeldError, ItemSoldError, UnknownItemError
from ledger.reservations.errors import (
    NotHeldError,
    ReservationEndedError,
    ReservationIdTakenError,
    UnknownReservationError,
)
from ledger.stock.errors import InsufficientStockError, Shortage, StockLimitError

ID = UUID("00000000-0000-4000-8000-000000000001")
# One of each refusal, with every member that it can have.
REFUSED = [
    UnauthorizedError(shown=False),
    ForbiddenError("shop", "catalog:write"),
    ForeignPageError("A page of 'https://evil.example' may not call this service."),
    IssuerAwayError(),
    RateLimitedError("with the key 'shop'", 1.0),
    InvalidError({"sku": "must not be empty"}),
    UnknownProductError("A"),
    UnknownItemError("B", "1"),
    UnknownReservationError(ID),
    OtherKindError("A", "fungible"),
    InsufficientStockError([Shortage("A", 5, 2, 1), Shortage("B", 1, 0, 1, sn="1")]),
    StockLimitError("A", 10),
    ItemHeldError("B", "1", datetime.now(UTC)),
    ItemSoldError("B", "1"),
    ReservationIdTakenError(ID),
    ReservationEndedError(ID, "expired"),
    NotHeldError(ID, "A", None, 2, 1),
    PreconditionFailedError(None, wanted_absent=False),
    KeyReusedError("k"),
    AheadOfLogError(9, 5),
    OtherHistoryError(3, "ab" * 32, 5),
    AbandonedError(),
    BusyError(),
    DatabaseAwayError(),
    OutcomeUnknownError(),
]


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    made: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document(ROUTES)))
    return made


def calls(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def validator(described: dict[str, Any], name: str) -> jsonschema.Draft202012Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def test_the_document_is_openapi_3_1(described: dict[str, Any]):
    validate(described)

    assert described["openapi"] == "3.1.0"


def test_every_call_that_is_routed_is_documented_and_no_other(described: dict[str, Any]):
    routed = {(method, path_of(route.template)) for route in ROUTES for method in route.needs if method != "HEAD"}

    assert {(method, path) for method, path, _ in calls(described)} == routed
    named = [operation["operationId"] for _, _, operation in calls(described)]
    assert len(named) == len(set(named)) == len(routed)


def test_a_route_without_an_operation_or_an_operation_without_a_route_is_refused():
    for routes in ([*ROUTES, Route("/x", lambda _: None, get=OPEN)], ROUTES[1:]):
        with pytest.raises(UndocumentedError, match=r"/x|/api/fungible"):
            document(routes)


def test_each_call_names_the_scopes_of_which_one_is_enough_and_how_it_is_refused(described: dict[str, Any]):
    declared = {(method, path_of(route.template)): needs for route in ROUTES for method, needs in route.needs.items()}

    for method, path, operation in calls(described):
        scopes = declared[method, path]
        assert operation["security"] == [{"key": [scope]} for scope in scopes], path
        assert ({"401", "403", "429"} <= set(operation["responses"])) == bool(scopes), path


def test_every_variable_of_a_path_is_a_parameter_of_it(described: dict[str, Any]):
    for _, path, operation in calls(described):
        given_in_path = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert given_in_path == set(re.findall(r"\{(\w+)\}", path)), path


def test_every_problem_that_can_be_answered_is_documented_with_its_status(described: dict[str, Any]):
    answered = {(slug, status) for status, slug, _ in PROBLEMS.values()}
    answered |= {(slug, status) for status, slug in HTTP_SLUGS.items()}
    answered |= {(slug, status) for status, (slug, _, _) in REFUSALS.items()}
    answered |= {(slug, status) for slug, (status, _) in OTHERS.items()}

    documented = {
        (schema["properties"]["type"]["const"].removeprefix("/problems/"), schema["properties"]["status"]["const"])
        for name, schema in described["components"]["schemas"].items()
        if name.endswith("Problem") and name != "Problem"
    }

    assert documented == answered


def test_a_problem_stands_under_its_status_and_each_of_the_ledgers_under_some_call(described: dict[str, Any]):
    schemas = described["components"]["schemas"]
    used = set()
    for _, path, operation in calls(described):
        for status, answer in operation["responses"].items():
            for name in re.findall(r"'#/components/schemas/(\w+Problem)'", str(answer)):
                used.add(schemas[name]["properties"]["type"]["const"].removeprefix("/problems/"))
                assert schemas[name]["properties"]["status"]["const"] == int(status), path
    # Of another command of the same batch, inside its answer.
    assert used >= {slug for _, slug, _ in PROBLEMS.values()} - {"abandoned"}


@pytest.mark.parametrize("error", REFUSED, ids=lambda error: type(error).__name__)
def test_a_refusal_has_just_the_members_that_are_documented(described: dict[str, Any], error: LedgerError):
    status, body = problem_of(error)
    told = msgspec.json.decode(msgspec.json.encode(body))
    slug = told["type"].removeprefix("/problems/")
    name = "".join(part.capitalize() for part in slug.split("-")) + "Problem"

    validator(described, name).validate(told)

    schemas = described["components"]["schemas"]
    assert set(told) == set(schemas["Problem"]["properties"]) | set(schemas[name]["properties"])
    assert status == told["status"]


def test_there_is_a_sample_of_every_refusal():
    assert {type(error) for error in REFUSED} == set(PROBLEMS)


def test_every_example_is_what_its_schema_says(described: dict[str, Any]):
    examples = list(_examples(described))

    for schema, shown in examples:
        whole = schema | {"components": described["components"]}
        jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker()).validate(shown)
    assert len(examples) > 50


def _examples(node: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    if isinstance(node, dict):
        if "example" in node and "schema" in node:
            yield node["schema"], node["example"]
        for value in node.values():
            yield from _examples(value)
    elif isinstance(node, list):
        for value in node:
            yield from _examples(value)


def test_every_body_that_is_shown_is_taken(client: TestClient, described: dict[str, Any]):
    client.simulate_put("/api/fungible/PENCIL", json={"amount_in_stock": 100})
    client.simulate_put("/api/non-fungible/BIKE/VIN1")
    sent = 0
    for method, path, operation in calls(described):
        shown = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
        if shown is None:
            continue
        names = {p["name"]: p["example"] for p in operation["parameters"] if p["in"] == "path"}
        if path.startswith("/api/non-fungible/"):
            names["sku"] = "BIKE"
        sent += 1
        answer = client.simulate_request(method, path.format(**names), json=shown)
        assert answer.status_code in (200, 201, 404, 409), (method, path, answer.text)
        if answer.status_code >= 400:
            assert answer.json["type"].removeprefix("/problems/") in ("unknown-reservation", "already-reserved")
    assert sent > 10


@given(st.text(min_size=0, max_size=6) | st.text(st.sampled_from("A/ \x00\x1f\x85\xa0\u2028\ufeff\uffff"), max_size=6))
@example("A" * 100)
@example("A" * 101)
@example(" " + "A" * 100 + "\u3000\n")
@example("A" * 50 + " " * 51 + "A")
def test_the_pattern_of_a_name_takes_what_the_ledger_takes(text: str):
    assert NAMED.extra_json_schema is not None
    try:
        taken = identifier(text, "sku") != ""
    except InvalidError:
        taken = False

    assert bool(re.search(NAMED.extra_json_schema["pattern"], text)) == taken


def test_the_document_is_served_once_and_then_known(client: TestClient, described: dict[str, Any]):
    first = client.simulate_get("/openapi.json")
    again = client.simulate_get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})

    assert (first.status_code, first.headers["Content-Type"]) == (200, "application/json")
    assert first.json == described
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/docs/start-1.js"])
def test_documents_take_no_parameters(client: TestClient, path: str):
    assert client.simulate_get(path, params={"x": "1"}).status_code == 422


def test_head_is_answered_wherever_get_is_and_without_a_body(client: TestClient):
    client.simulate_put("/api/fungible/PENCIL", json={"amount_in_stock": 100})
    client.simulate_put("/api/non-fungible/BIKE/VIN1")
    held = client.simulate_post("/api/reservations", json={"lines": [{"sku": "PENCIL", "quantity": 1}]}).json["id"]
    names = {"sku": "PENCIL", "sn": "VIN1", "reservation_id": held, "file": "start-1.js"}
    asked = [path_of(route.template) for route in ROUTES if "GET" in route.needs]
    assert len(asked) > 20
    for path in asked:
        path = path.format(**(names | ({"sku": "BIKE"} if "non-fungible" in path else {})))
        got, head = client.simulate_get(path), client.simulate_head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        varying = {"x-request-id", "content-length", "ledger-lag", "ledger-time"}
        told = [{k.lower(): v for k, v in answer.headers.items() if k.lower() not in varying} for answer in (got, head)]
        assert told[0] == told[1], path


def test_head_of_what_is_streamed_lets_go_of_it(client: TestClient):
    """There are fewer places for reports and for streams of the log than heads here."""
    for path, headers in (("/api/reports/stock", {}), ("/api/events", {"Accept": "application/x-ndjson"})):
        for _ in range(20):
            assert client.simulate_head(path, headers=headers).status_code == 200
