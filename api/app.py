"""The whole route table on one screen."""

import re

import falcon

from api import (
    batch,
    events,
    fungible,
    health,
    history,
    intents,
    non_fungible,
    problems,
    reports,
    requests,
    reservations,
)
from api.messages import Parser
from api.service import Service
from ledger.errors import LedgerError
from ledger.gathering import work_until


def create_app(service: Service) -> "falcon.App[falcon.Request, falcon.Response]":
    """The WSGI application; it opens nothing and starts nothing."""
    app = falcon.App(middleware=[Envelope()])
    app.req_options.strip_url_path_trailing_slash = False
    app.req_options.auto_parse_qs_csv = False
    app.set_error_serializer(lambda req, resp, error: problems.http_problem(req, resp, error, {}))
    app.add_error_handler(Exception, problems.unexpected_problem)
    app.add_error_handler(falcon.HTTPError, problems.http_problem)
    app.add_error_handler(LedgerError, problems.ledger_problem)

    route = app.add_route
    route("/api/fungible", fungible.Products(service))
    route("/api/fungible/{sku}", fungible.Product(service))
    route("/api/fungible/{sku}/add/{quantity_text}", fungible.Movement(service, intents.add))
    route("/api/fungible/{sku}/remove/{quantity_text}", fungible.Movement(service, intents.remove))
    route("/api/fungible/{sku}/reserve/{quantity_text}", fungible.Reserve(service))
    route("/api/fungible/{sku}/history", history.FungibleHistory(service))
    route("/api/non-fungible", non_fungible.Products(service))
    route("/api/non-fungible/{sku}", non_fungible.Product(service))
    route("/api/non-fungible/{sku}/{sn}", non_fungible.Item(service))
    route("/api/non-fungible/{sku}/{sn}/reservation", non_fungible.ItemReservation(service))
    route("/api/non-fungible/{sku}/{sn}/history", history.ItemHistory(service))
    route("/api/reservations", reservations.Reservations(service))
    route("/api/reservations/{reservation_id:uuid}", reservations.Reservation(service))
    route("/api/reservations/{reservation_id:uuid}/release", reservations.Release(service))
    route("/api/reservations/{reservation_id:uuid}/extend", reservations.Extend(service))
    route("/api/reservations/{reservation_id:uuid}/purchase", reservations.Purchase(service))
    route("/api/reservations/{reservation_id:uuid}/return", reservations.Return(service))
    route("/api/batch", batch.Batch(service))
    route("/api/fulfilment-requests", reservations.FulfilmentRequests(service))
    route("/api/reports/{name}", reports.Reports(service))
    route("/api/events", events.Events(service))
    route("/health/live", health.Live())
    route("/health/ready", health.Ready(service))
    return app


# GET of one fungible product: a gathered look-up. Without a query.
_LOOK_UP = re.compile(r"/api/fungible/[^/]+")
# Larger bodies take so long to read and answer that they would hold up the others.
MAX_LIGHT_BYTES = 16_384


def is_light(request: Parser) -> bool:
    """Whether a request waits for nothing but the committer or a gathered look-up, see carrier.py."""
    if request.error is not None:
        return True
    if request.command in ("GET", "HEAD"):
        return not request.query and (request.path == "/health/live" or _LOOK_UP.fullmatch(request.path) is not None)
    return request.body_bytes_received <= MAX_LIGHT_BYTES and request.path != "/api/batch"


class Envelope:
    """What every request and answer carries, whatever the route."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        req.context.request_id = requests.request_id(req)
        resp.set_header("X-Request-Id", req.context.request_id)
        requests.check_method(req)
        requests.check_wait(req)
        requests.check_target(req)

    def process_response(self, _req: falcon.Request, _resp: falcon.Response, _resource: object, _done: bool) -> None:
        work_until(float("inf"))  # the thread has no caller any longer
