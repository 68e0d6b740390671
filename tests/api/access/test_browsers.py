"""Pages in browsers: which may call, and that none may where no key is asked for."""

from typing import Any

import pytest
from falcon.testing import TestClient

from api.access.browsers import Cors, OwnPagesOnly
from api.access.keys import HeldKeys
from api.app import create_app
from api.http.service import Service
from ledger.engine.ledger import Ledger
from projections.reader import Reader

SHOP, EVIL = "https://shop.example", "https://evil.example"
PREFLIGHT = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}


@pytest.fixture
def application(service_url: str, schema: str, ledger: Ledger, held: HeldKeys):
    """Makes a client of an application with keys, or without, that these look at browsers for."""
    reader = Reader(service_url, schema, max_connections=2)

    def make(*browsers: Any, keys: bool = False) -> TestClient:
        return TestClient(create_app(Service(ledger, reader, 3600), held if keys else None, browsers=browsers))

    yield make
    reader.close()


def test_without_origins_nothing_is_said_to_pages(application: Any):
    answer = application(keys=True).simulate_options("/api/fungible", headers=PREFLIGHT | {"Origin": SHOP})

    assert [name for name in answer.headers if name.lower().startswith("access-control")] == []


def test_pages_of_a_named_origin_may_call_and_read_answers_of_every_kind(application: Any):
    client = application(Cors({SHOP}), keys=True)

    asked = client.simulate_options("/api/fungible/A", headers=PREFLIGHT | {"Origin": SHOP})
    assert (asked.status_code, asked.text) == (204, "")
    assert "PUT" in asked.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
    for answer in (
        asked,
        client.simulate_put("/api/fungible/A", headers={"Origin": SHOP}),
        client.simulate_get("/x", headers={"Origin": SHOP}),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == SHOP
        assert "Origin" in answer.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    "origin", [EVIL, "null", f"{SHOP}.evil.example", f"{SHOP}:8443", SHOP.upper(), "http://shop.example"]
)
def test_pages_of_other_origins_may_not(application: Any, origin: str):
    client = application(Cors({SHOP}), keys=True)

    for answer in (
        client.simulate_options("/api/fungible/A", headers=PREFLIGHT | {"Origin": origin}),
        client.simulate_get("/health/live", headers={"Origin": origin}),
    ):
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:8000", None, 200),
        ("127.0.0.1:8000", None, 200),
        ("[::1]:8000", None, 200),
        ("localhost:8000", "http://localhost:8000", 200),
        ("localhost:8000", SHOP, 200),
        ("localhost:8000", EVIL, 403),
        ("localhost:8000", "null", 403),
        ("localhost:8000", "http://localhost:3000", 403),
        ("evil.example:8000", None, 403),
        ("evil.example:8000", "http://evil.example:8000", 403),
        ("localhost.evil.example", None, 403),
        ("[", None, 403),
        ("", None, 403),
    ],
)
def test_without_keys_no_page_of_another_site_may_call(application: Any, host: str, origin: str | None, status: int):
    client = application(OwnPagesOnly({SHOP}))
    headers = {"Host": host} | ({"Origin": origin} if origin else {})

    for _ in range(2):
        answer = client.simulate_put("/api/fungible/A", headers=headers)
        assert answer.status_code == status
    if status == 403:
        assert (answer.headers["Content-Type"], answer.json["type"]) == (
            "application/problem+json",
            "/problems/foreign-page",
        )
