"""Hostile text in every parameter of every call, over real sockets: an answer in order each time, and a ledger intact.

The parameters are those of the service's own document, so that none is left out.
"""

import http.client
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from api.app import ROUTES
from api.cli import main
from api.openapi.document import document
from ledger.store.connection import connect
from tests.api.server.test_server import Answer
from tests.fuzz.fuzzing import stocked_service
from tests.service import RunningService

PATIENCE_SECONDS = 15.0
NAMES = {"sku": b"PENCIL", "sn": b"VIN1", "quantity": b"1", "reservation_id": b"00000000-0000-4000-8000-000000000001"}
# As bytes of a target, so that what is no text can be said, too.
HOSTILE = {
    "a quote": b"%27",
    "SQL": quote("'; DROP TABLE stored_events; --").encode(),
    "SQL that is true": quote("' OR '1'='1").encode(),
    "SQL that waits": quote("1); SELECT pg_sleep(30); --").encode(),
    "a parameter of SQL": b"$1%25s%25(x)s",
    "a dollar quote": quote("$$;DO $$BEGIN END$$").encode(),
    "a header": b"x%0D%0ASet-Cookie:%20a=b",
    "an answer": b"%0D%0A%0D%0AHTTP/1.1%20200%20OK",
    "the folder above": b"..%2F..%2F..%2Fetc%2Fpasswd",
    "the folder above, plainly": b"../../etc/passwd",
    "the folder above, twice encoded": b"%252e%252e%252fetc",
    "the folder above, elsewhere": b"..%5C..%5Cwindows",
    "NUL": b"a%00b",
    "no UTF-8": b"%FF%FE",
    "a UTF-8 of too many bytes": b"%C0%AF",
    "a surrogate": b"%ED%A0%80",
    "an end of the text": b"%",
    "no hexadecimal": b"%zz",
    "a huge number": b"9" * 400,
    "a number of another script": "٣".encode().hex("%").join(["%", ""]).encode(),
    "a negative number": b"-1",
    "no number": b"NaN",
    "a page": quote("<script>alert(1)</script>").encode(),
    "a template": quote("{{7*7}}${7*7}").encode(),
    "a format": b"%25n%25s%7B0%7D",
    "a turn to the left": quote("\u202egnp").encode(),
    "much": b"A" * 6_000,
}
BODIES = [
    b"[" * 50_000,
    b'{"a":' * 50_000,
    b'{"lines":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    b"\xff\xfe{}",
    b'{"\\u0000":1}',
    b'{"color":"\\ud800"}',
    b"1e999999",
    b"9" * 10_000,
    b'{"a":1,"a":2}',
    b"{}" * 1_000,
    b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
    b"x" * 1_048_576,
]
MEMBERS = [
    "'; DROP TABLE stored_events; --",
    "a\0b",
    "\r\nSet-Cookie: a=b",
    "x" * 20_000,
    {"a": [[[[1]]]]},
    [["a"]] * 50,
    10**400,
    -(2**63) - 1,
    1.5,
    True,
    None,
]


class Wire:
    """A connection that is opened again when the service has ended it."""

    def __init__(self, service: RunningService, key: str) -> None:
        parts = urlsplit(service.url)
        self._address = (parts.hostname, parts.port)
        self._fields = b"Host: localhost\r\nAuthorization: Bearer " + key.encode() + b"\r\n"
        self._socket: socket.socket | None = None
        self._asked = 0

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, method: str, target: bytes, body: bytes | None = None, fields: bytes = b"") -> Answer:
        """The answer to this request and no other, in time."""
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=PATIENCE_SECONDS)
        given = b"" if body is None else b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        self._asked += 1
        own = b"" if fields.startswith(b"X-Request-Id") else b"X-Request-Id: %d\r\n" % self._asked
        head = b"%b %b HTTP/1.1\r\n%b%b%b%b\r\n" % (method.encode(), target, self._fields, own, given, fields)
        self._socket.sendall(head + (body or b""))
        response = http.client.HTTPResponse(self._socket, method=method)
        response.begin()
        answer = Answer(response.status, dict(response.getheaders()), response.read())
        if answer.headers.get("Connection") == "close":
            self.close()
        assert not own or answer.headers["X-Request-Id"] == str(self._asked)
        return answer

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def check(answer: Answer, what: Any) -> None:
    """Not a defect, and a problem where it is a refusal; nothing of what was sent has become a header."""
    assert answer.status < 500, what
    assert answer.headers["X-Request-Id"]
    assert "Set-Cookie" not in answer.headers
    if answer.status >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json", what
        assert answer.json["status"] == answer.status
        assert "Traceback" not in answer.json["detail"]
        assert not re.search(r"psycopg|SELECT |syntax error", answer.json["detail"].replace("SELECT pg_sleep", ""))


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(document(ROUTES), default=str))
    return made


def calls(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in described["paths"].items():
        for method, operation in item.items():
            if method in ("get", "put", "post", "delete"):
                yield method.upper(), path, operation


def resolved(described: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in found:
        at: Any = described
        for part in found["$ref"].removeprefix("#/").split("/"):
            at = at[part]
        found = at
    return found


def parameters(described: dict[str, Any], path: str, operation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(place, name) of each; those of the path are in the path itself."""
    yield from (("path", name) for name in re.findall(r"\{(\w+)\}", path))
    for given in [*described["paths"][path].get("parameters", []), *operation.get("parameters", [])]:
        parameter = resolved(described, given)
        if parameter["in"] != "path":
            yield parameter["in"], parameter["name"]


def filled(path: str, **other: bytes) -> bytes:
    names = {**NAMES, **other}
    return re.sub(rb"\{(\w+)\}", lambda found: names.get(found[1].decode(), b"x"), path.encode())


@contextmanager
def intact(url: str, schema: str, wire: Wire) -> Iterator[None]:
    """The service works afterwards, and the ledger with all its tables verifies."""
    with connect(url, schema) as conn:
        query = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()"
        before = conn.execute(query).fetchone()
        yield
        assert conn.execute(query).fetchone() == before
    assert wire.ask("GET", b"/health/ready").status == 200
    assert main(["verify", "--database-url", url, "--schema", schema]) == 0


def test_hostile_text_in_any_parameter_is_answered_in_order_and_harms_nothing(
    postgres_url: str, schema: str, described: dict[str, Any], capsys: pytest.CaptureFixture[str]
):
    settings = {"DATABASE_URL": postgres_url, "STOCKLEDGER_SCHEMA": schema}
    asked = 0
    with stocked_service(settings) as (service, key), Wire(service, key) as wire, intact(postgres_url, schema, wire):
        for method, path, operation in calls(described):
            for place, name in parameters(described, path, operation):
                for what, text in HOSTILE.items():
                    if place == "path":
                        answer = wire.ask(method, filled(path, **{name: text}))
                    elif place == "query":
                        answer = wire.ask(method, filled(path) + b"?" + quote(name).encode() + b"=" + text)
                    else:
                        answer = wire.ask(method, filled(path), fields=name.encode() + b": " + text + b"\r\n")
                    check(answer, (method, path, name, what))
                    asked += 1
    assert asked > 2_000


def test_hostile_bodies_and_members_are_answered_in_order_and_harm_nothing(
    postgres_url: str, schema: str, described: dict[str, Any], capsys: pytest.CaptureFixture[str]
):
    settings = {"DATABASE_URL": postgres_url, "STOCKLEDGER_SCHEMA": schema}
    asked = 0
    with stocked_service(settings) as (service, key), Wire(service, key) as wire, intact(postgres_url, schema, wire):
        for method, path, operation in calls(described):
            if "requestBody" not in operation:
                continue
            for body in BODIES:
                check(wire.ask(method, filled(path), body), (method, path, body[:40]))
            content = resolved(described, operation["requestBody"])["content"]["application/json"]["schema"]
            for name in resolved(described, content).get("properties", {}):
                for value in MEMBERS:
                    answer = wire.ask(method, filled(path), json.dumps({name: value}).encode())
                    check(answer, (method, path, name, str(value)[:40]))
                    asked += 1
    assert asked > 500
