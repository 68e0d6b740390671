"""Every route says for each of its methods which scope it asks for, or the service does not start."""

from typing import Any

import falcon
import pytest
from falcon.routing import map_http_methods
from falcon.testing import TestClient

from api.access.scopes import SCOPES
from api.app import ROUTES, WRITES, create_app
from api.http.routes import OPEN, Route, RouteError
from api.http.service import Service

# What anybody may ask without a key: changing this table is a decision.
OPEN_TO_ALL = {
    (method, path)
    for method in ("GET", "HEAD")
    for path in ("/health/live", "/health/ready", "/openapi.json", "/docs", "/docs/{file}")
}


class GetAndPut:
    def on_get(self, req: Any, resp: Any) -> None: ...

    def on_put(self, req: Any, resp: Any) -> None: ...


def test_no_responder_is_without_a_declared_scope(client: TestClient):
    declared = {(method, route.template) for route in ROUTES for method in route.needs}

    served = set()
    for route in ROUTES:
        resource = client.app._router.find(route.template.replace("{reservation_id:uuid}", "0" * 32))[0]
        served |= {(method, route.template) for method in map_http_methods(resource)}

    assert served == declared
    assert len(ROUTES) == len({route.template for route in ROUTES})


def test_only_these_are_open_and_every_write_asks_for_a_scope_to_write():
    assert {(method, route.template) for route in ROUTES for method, needs in route.needs.items() if not needs} == (
        OPEN_TO_ALL
    )
    writes = [needs for route in ROUTES for method, needs in route.needs.items() if method not in ("GET", "HEAD")]
    assert all(needs and set(needs) <= set(WRITES) for needs in writes)


def test_a_responder_without_a_scope_or_a_scope_without_a_responder_is_refused():
    for needs in ({"get": "read"}, {"get": "read", "put": "stock:write", "delete": "stock:write"}, {}):
        with pytest.raises(RouteError, match="/x: a scope without a responder, or one without a scope: "):
            Route("/x", lambda _: GetAndPut(), **needs).add_to(falcon.App(), None)

    Route("/x", lambda _: GetAndPut(), get=OPEN, put="stock:write").add_to(falcon.App(), None)


@pytest.mark.parametrize("needs", ["", "write", "catalog:write read", "READ", (), ("read", "nothing")])
def test_a_scope_that_there_is_not_is_refused(needs: Any):
    with pytest.raises(RouteError, match="asks for a scope that there is not"):
        Route("/x", lambda _: GetAndPut(), get=needs)


def test_the_application_is_not_made_if_a_route_does_not_fit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("api.app.ROUTES", (Route("/x", lambda _: GetAndPut(), get="read"), *ROUTES))

    with pytest.raises(RouteError, match="PUT"):
        create_app(Service(None, None, 3600))


def test_every_scope_is_asked_for_somewhere():
    asked = {scope for route in ROUTES for needs in route.needs.values() for scope in needs}

    assert set(SCOPES) - asked == set()
