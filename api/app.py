"""The application: the routes of the rooms, those that belong to no business, and what every request goes through."""

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import falcon
from msgspec import structs

from api import rooms
from api.access.authentication import Authentication, Known
from api.access.scopes import ANYBODY, NOBODY, Caller, Scope
from api.http import problems, requests
from api.http.routes import OPEN, Route
from api.http.service import Service
from api.resources import documents, events, health, metrics, reports
from api.resources.batch import Batch
from api.server.parser import Parser
from api.telemetry.requests import Requests
from ledger.caller import set_deadline
from ledger.errors import LedgerError

# Any of these lets a batch in.
WRITES: tuple[Scope, ...] = ("catalog:write", "stock:write", "reservations:write")

ROUTES: tuple[Route, ...] = (
    *rooms.ROUTES,
    Route("/api/batch", partial(Batch, rooms.BATCH), post=WRITES),
    *(Route(f"/api/reports/{name}", partial(reports.ReportOf, name), get="read") for name in reports.REPORTS),
    Route("/api/events", events.Events, get="audit:read"),
    Route("/metrics", metrics.Metrics, get=("admin", "read")),
    Route("/health/live", lambda _: health.Live(), get=OPEN),
    Route("/health/ready", health.Ready, get=OPEN),
    Route("/openapi.json", lambda _: documents.OpenApi(lambda: ROUTES), get=OPEN),
    Route("/docs", lambda _: documents.Page(), get=OPEN),
    Route("/docs/{file}", lambda _: documents.File(), get=OPEN),
)


def create_app(
    service: Service, known: Known | None = None, watched: Requests | None = None, browsers: Sequence[Any] = ()
) -> "falcon.App[falcon.Request, falcon.Response]":
    """The WSGI application; it opens nothing and starts nothing.

    Without `known`, anybody may do everything; without `watched`, requests are watched in the usual way.
    `browsers` look at each request once it has an id, see browsers.py.
    """
    app = falcon.App()
    app.req_options.strip_url_path_trailing_slash = False
    app.req_options.auto_parse_qs_csv = False
    app.set_error_serializer(lambda req, resp, error: problems.http_problem(req, resp, error, {}))
    app.add_error_handler(Exception, problems.unexpected_problem)
    app.add_error_handler(falcon.HTTPError, problems.http_problem)
    app.add_error_handler(LedgerError, problems.ledger_problem)
    served = structs.replace(service, commands=rooms.COMMANDS)
    for route in ROUTES:
        route.add_to(app, served)
    app.add_middleware(Envelope(ANYBODY if known is None else NOBODY, watched or Requests(service.telemetry)))
    for each in browsers:
        app.add_middleware(each)
    if known is not None:
        app.add_middleware(Authentication({route.template: route.needs for route in ROUTES}, known))
    return app


# GET of one fungible product: a gathered look-up. Without a query.
_LOOK_UP = re.compile(r"/api/fungible/[^/]+")
# Larger bodies take so long to read and answer that they would hold up the others.
MAX_LIGHT_BYTES = 16_384


def is_light(request: Parser) -> bool:
    """Whether a request waits for nothing but the committer or a gathered look-up, see inline_execution.py."""
    if request.error is not None:
        return True
    if request.command in ("GET", "HEAD"):
        return not request.query and (request.path == "/health/live" or _LOOK_UP.fullmatch(request.path) is not None)
    return request.body_bytes_received <= MAX_LIGHT_BYTES and request.path != "/api/batch"


class Envelope:
    """What every request and answer carries, whatever the route, and what is made of it once it is answered.

    `caller` is who asks until it shows a key.
    """

    def __init__(self, caller: Caller, watched: Requests) -> None:
        self._caller = caller
        self._watched = watched

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        req.context.caller = self._caller
        req.context.request_id = requests.request_id(req)
        resp.set_header("X-Request-Id", req.context.request_id)
        requests.check_method(req)
        requests.check_wait(req)
        requests.check_target(req)

    def process_response(self, req: falcon.Request, resp: falcon.Response, _resource: object, _done: bool) -> None:
        if req.method == "HEAD" and resp.stream is not None:
            # The framework leaves it out without closing it; an empty one keeps the length unsaid.
            getattr(resp.stream, "close", lambda: None)()
            resp.stream = iter(())
        set_deadline(float("inf"))  # the thread has no caller any longer
        self._watched.answered(req, resp)
