"""/api/fulfilment-requests: what was purchased, to be followed."""

import falcon

from api.http import answers, cursors, requests
from api.http.service import Service
from api.resources.events import follow_from
from projections.fulfilment import fulfilment_requests


class FulfilmentRequests:
    """What was purchased, in the order of the log: follow it with `?after=` the last position seen."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        requests.known_parameters(req, "limit", "cursor", "after")
        limit = requests.limit(req)
        after = cursors.decode(req.get_param("cursor"), requests.position(req, "after"))
        follow_from(self._service.reader, after)
        position, found = self._service.reader.read(lambda conn: fulfilment_requests.page(conn, after, limit + 1))
        answers.page(resp, [(request.position, request) for request in found], limit, position)
