"""With keys on: who may do what, by route, by member and by command; and that a refusal changes nothing."""

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from api.access.keys import HeldKeys, hash_of, new_key
from api.access.scopes import SCOPES
from api.app import ROUTES, create_app
from api.http.service import Service
from api.rooms import COMMANDS
from ledger.commands import Command
from ledger.engine.ledger import Ledger
from ledger.reservations.commands import ExpireReservation
from ledger.rooms import ROOMS
from ledger.store import keys
from ledger.store.connection import Connection, connect
from ledger.store.migrate import migrate
from projections.inline import InlineReadModels
from projections.reader import Reader
from tests.api.conftest import MakeKey
from tests.conftest import drop_ledger

NAMES = {
    "file": "start-1.js",
    "sku": "A",
    "sn": "1",
    "quantity_text": "1",
    "reservation_id:uuid": "00000000-0000-4000-8000-000000000001",
    "name": "stock",
}
ASKED = [(method, route.template, needs) for route in ROUTES for method, needs in route.needs.items() if needs]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def concrete(template: str) -> str:
    return re.sub(r"\{(.*?)\}", lambda name: NAMES[name[1]], template)


def seen(conn: Connection) -> Any:
    """All that a request can change."""
    tables = ("stored_events", "idempotency_keys", "stock_levels", "reservations", "shortages_daily")
    query = " UNION ALL ".join(f"SELECT count(*), max(t::text) FROM {table} AS t" for table in tables)
    return conn.execute(query.encode()).fetchall()


class Shop:
    """One application for the whole table: a key for each scope, and keys that count no longer."""

    def __init__(self, url: str, schema: str) -> None:
        self.conn = connect(url, schema)
        self.of_scope = {scope: self._make(scope.replace(":", "-"), scope) for scope in SCOPES}
        revoked, expired = self._make("revoked", *SCOPES), self._make("expired", *SCOPES)
        keys.revoke(self.conn, "revoked")
        self.conn.execute("UPDATE api_keys SET expires_at = clock_timestamp() WHERE name = 'expired'")
        live = self.of_scope["read"]
        self.bad = {
            "no key": {},
            "no scheme": {"Authorization": live},
            "another scheme": {"Authorization": f"Basic {live}"},
            "an empty key": {"Authorization": "Bearer "},
            "half a key": bearer(live[:-1]),
            "a key and more": bearer(live + " x"),
            "two keys": {"Authorization": f"Bearer {live}, Bearer {live}"},
            "bytes beyond ASCII": bearer("slk_\xff"),
            "a key that nobody has": bearer(new_key()),
            "a revoked key": bearer(revoked),
            "an expired key": bearer(expired),
        }
        self._ledger = Ledger(url, schema, ROOMS, InlineReadModels())
        self._reader = Reader(url, schema, max_connections=2)
        self._held = HeldKeys(url, schema)
        self.client = TestClient(create_app(Service(self._ledger, self._reader, 3600), self._held))

    def _make(self, name: str, *scopes: str) -> str:
        key = new_key()
        keys.create(self.conn, name, hash_of(key), scopes, None)
        return key

    def close(self) -> None:
        for part in (self._held, self._ledger, self._reader, self.conn):
            part.close()


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[Shop]:
    schema = f"test_{uuid.uuid4().hex[:12]}"
    migrate(postgres_url, schema)
    opened = Shop(postgres_url, schema)
    yield opened
    opened.close()
    drop_ledger(postgres_url, schema)


def assert_problem(answer: Result, status: int, slug: str) -> None:
    """HEAD has no body to look at."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert answer.headers["X-Request-Id"]
    if answer.content:
        assert (answer.json["status"], answer.json["type"]) == (status, f"/problems/{slug}")


@pytest.mark.parametrize(("method", "template", "needs"), ASKED, ids=[f"{m} {t}" for m, t, _ in ASKED])
def test_a_route_is_closed_to_every_key_but_those_with_its_scope(
    shop: Shop, method: str, template: str, needs: tuple[str, ...]
):
    path, before = concrete(template), seen(shop.conn)
    body = {"commands": [{"command": "add", "sku": "A", "quantity": 1}]} if template == "/api/batch" else None
    address = f"10.{ASKED.index((method, template, needs))}.0.1"

    for name, headers in shop.bad.items():
        answer = shop.client.simulate_request(method, path, headers=headers, json=body, remote_addr=address)
        assert_problem(answer, 401, "unauthorized")
        error = "" if name == "no key" else ', error="invalid_token"'
        assert answer.headers["WWW-Authenticate"] == f'Bearer realm="stockledger"{error}'
        assert method == "HEAD" or sorted(answer.json) == ["detail", "status", "title", "type"]
    for scope in set(SCOPES) - set(needs):
        answer = shop.client.simulate_request(method, path, headers=bearer(shop.of_scope[scope]), json=body)
        assert_problem(answer, 403, "forbidden")
        assert f'error="insufficient_scope", scope="{" ".join(needs)}"' in answer.headers["WWW-Authenticate"]
        if method != "HEAD":
            assert answer.json["required_scopes"] == list(needs)
            assert all(scope in answer.json["detail"] for scope in needs)
    assert seen(shop.conn) == before

    for scope in needs:
        answer = shop.client.simulate_request(method, path, headers=bearer(shop.of_scope[scope]), json=body)
        assert answer.status_code not in (401, 403)


def test_what_is_open_takes_no_key_and_minds_no_bad_one(shop: Shop):
    opened = [(method, route.template) for route in ROUTES for method, needs in route.needs.items() if not needs]

    for method, template in opened:
        for headers in shop.bad.values():
            assert shop.client.simulate_request(method, concrete(template), headers=headers).status_code == 200
    assert len(opened) >= 4


def test_a_path_that_there_is_not_is_told_to_anybody_but_a_method_only_to_keys(shop: Shop):
    assert shop.client.simulate_get("/nothing").status_code == 404
    assert shop.client.simulate_options("/api/fungible").status_code == 200
    assert shop.client.simulate_delete("/api/fungible").status_code == 401
    assert shop.client.simulate_delete("/api/fungible", headers=bearer(shop.of_scope["admin"])).status_code == 405


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
def test_the_scheme_may_be_written_in_several_ways(shop: Shop, scheme: str):
    headers = {"Authorization": f"{scheme} {shop.of_scope['read']}"}
    assert shop.client.simulate_get("/api/fungible", headers=headers).status_code == 200


# Members and commands that ask for one scope more


@pytest.mark.parametrize(
    ("method", "path", "member"),
    [
        ("PUT", "/api/fungible/C", {"amount_in_stock": 0}),
        ("POST", "/api/fungible", {"amount_in_stock": 3}),
        ("PUT", "/api/non-fungible/D/1", {"sold": False}),
    ],
)
def test_saying_what_there_is_takes_more_than_describing_it(
    guarded: TestClient, held: HeldKeys, conn: Connection, make_key: MakeKey, method: str, path: str, member: Any
):
    catalog, both = make_key("catalog", "catalog:write"), make_key("both", "catalog:write", "stock:write")
    stock = make_key("stock", "stock:write")
    held._turn()

    for key, missing in ((catalog, "stock:write"), (stock, "catalog:write")):
        answer = guarded.simulate_request(method, path, json=member, headers=bearer(key))
        assert_problem(answer, 403, "forbidden")
        assert answer.json["required_scopes"] == [missing]
    assert conn.execute("SELECT count(*) FROM stored_events").fetchone() == (0,)
    assert guarded.simulate_request(method, path, json=member, headers=bearer(both)).status_code == 200
    assert guarded.simulate_request(method, path, json={"color": "Red"}, headers=bearer(catalog)).status_code == 200


BATCH = [
    {"command": "put", "sku": "A", "color": "Red"},
    {"command": "add", "sku": "A", "quantity": 5},
    {"command": "reserve", "sku": "A", "quantity": 1},
    {"command": "put", "sku": "A", "amount_in_stock": 9},
]


def test_each_command_of_a_batch_asks_for_its_own_scope(guarded: TestClient, held: HeldKeys, make_key: MakeKey):
    key = make_key("catalog", "catalog:write")
    held._turn()

    answer = guarded.simulate_post("/api/batch", json={"commands": BATCH}, headers=bearer(key))

    results = answer.json["results"]
    assert (answer.status_code, [result["status"] for result in results]) == (200, [200, 403, 403, 403])
    assert [result["body"].get("required_scopes") for result in results[1:]] == [
        ["stock:write"],
        ["reservations:write"],
        ["stock:write"],
    ]


def test_a_batch_of_all_is_refused_as_a_whole_for_one_missing_scope(
    guarded: TestClient, held: HeldKeys, conn: Connection, make_key: MakeKey
):
    key = make_key("two", "catalog:write", "reservations:write")
    held._turn()
    body = {"mode": "all", "commands": [*BATCH, {"command": "add"}]}

    answer = guarded.simulate_post("/api/batch", json=body, headers=bearer(key))

    assert_problem(answer, 403, "forbidden")
    assert answer.json["required_scopes"] == ["stock:write"]
    assert conn.execute("SELECT count(*) FROM stored_events").fetchone() == (0,)


def test_every_command_that_a_caller_can_give_asks_for_a_scope():
    def below(base: type[Command]) -> Iterator[type[Command]]:
        for sub in base.__subclasses__():
            yield sub
            yield from below(sub)

    given = {command for command in below(Command) if not command.__subclasses__()} - {ExpireReservation}
    assert set(COMMANDS) == given


# Who did it


def test_the_name_of_the_key_is_the_actor_of_single_calls_and_of_batches(
    guarded: TestClient, held: HeldKeys, conn: Connection, make_key: MakeKey
):
    key = make_key("shop-front", *SCOPES)
    held._turn()

    guarded.simulate_put("/api/fungible/A", headers=bearer(key))
    guarded.simulate_post("/api/batch", json={"commands": BATCH[1:2]}, headers=bearer(key))

    actors = [json.loads(state)["actor"] for (state,) in conn.execute("SELECT state FROM stored_events").fetchall()]
    assert actors == ["shop-front"] * 2


def test_one_callers_idempotency_keys_never_meet_anothers(guarded: TestClient, held: HeldKeys, make_key: MakeKey):
    first, second = make_key("first", *SCOPES), make_key("second", *SCOPES)
    held._turn()
    same = {"Idempotency-Key": "k"}
    guarded.simulate_put("/api/fungible/A", headers=bearer(first))

    answers = [
        guarded.simulate_post("/api/fungible/A/add/1", headers=bearer(key) | same) for key in (first, first, second)
    ]

    assert [answer.json["amount_in_stock"] for answer in answers] == [1, 1, 2]
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == [None, "true", None]
