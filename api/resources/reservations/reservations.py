"""/api/reservations: what carts hold, and the ways in which that ends."""

from uuid import UUID

import falcon

from api.http import answers, cursors, point_in_time, requests
from api.http.schemas import ReasonBody
from api.http.service import Service, common, unconditional
from api.resources.reservations.command_builders import change, extend, make_cart, purchase, release, take_back
from api.resources.reservations.schemas import (
    CartBody,
    ChangeBody,
    ExtendBody,
    LinesBody,
    PurchaseBody,
    ReservationAnswer,
)
from ledger.errors import InvalidError
from ledger.identifiers import identifier
from ledger.reservations.errors import UnknownReservationError
from projections import as_of
from projections.reservations import reservations

_STATES = ("open", "released", "expired", "purchased")


class Reservations:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        requests.known_parameters(req, "limit", "cursor", "state", "owner", "sku")
        limit, after = requests.limit(req), cursors.decode(req.get_param("cursor"), 0)
        state, owner, sku = (req.get_param(name) for name in ("state", "owner", "sku"))
        if state is not None and state not in _STATES:
            raise InvalidError({"state": f"must be one of {', '.join(_STATES)}"})
        if owner is not None and "\0" in owner:
            raise InvalidError({"owner": "must not hold NUL"})
        wanted = identifier(sku, "sku") if sku is not None else None
        position, now, found = self._service.reader.read(
            lambda conn: reservations.page(conn, after, limit + 1, state=state, owner=owner, sku=wanted)
        )
        answers.page(resp, [(r.position, ReservationAnswer.of(r, now)) for r in found], limit, position)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        command = make_cart(self._service, requests.body(req, CartBody), unconditional(req))
        made = self._service.answer(req, resp, command)
        resp.set_header("Location", f"/api/reservations/{made.id}")


class Reservation:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_delete(self, req: falcon.Request, resp: falcon.Response, reservation_id: UUID) -> None:
        command = release(requests.body(req, ReasonBody), reservation_id, common(req))
        self._service.answer(req, resp, command)

    def on_get(self, req: falcon.Request, resp: falcon.Response, reservation_id: UUID) -> None:
        requests.known_parameters(req, *point_in_time.PARAMETERS)
        reader = self._service.reader
        now = None
        if (then := point_in_time.asked(req, reader)) is None:
            position, now, found = reader.read(lambda conn: reservations.get(conn, reservation_id))
        else:
            position, found = then, reader.read(lambda conn: as_of.reservation(conn, reservation_id, then))
            point_in_time.keep(resp)
        if found is None:
            with answers.reflecting(position):
                raise UnknownReservationError(reservation_id)
        lapsed = found.remaining if now is not None and found.is_overdue(now) else 0
        answers.versioned(req, resp, ReservationAnswer.of(found, now), found.version, position, lapsed)

    def on_put(self, req: falcon.Request, resp: falcon.Response, reservation_id: UUID) -> None:
        command = change(requests.body(req, ChangeBody), reservation_id, common(req))
        self._service.answer(req, resp, command)


class Release:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post(self, req: falcon.Request, resp: falcon.Response, reservation_id: UUID) -> None:
        command = release(requests.body(req, LinesBody), reservation_id, common(req))
        self._service.answer(req, resp, command)


class Extend:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post(self, req: falcon.Request, resp: falcon.Response, reservation_id: UUID) -> None:
        command = extend(self._service, requests.body(req, ExtendBody), reservation_id, common(req))
        self._service.answer(req, resp, command)


class Purchase:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post(self, req: falcon.Request, resp: falcon.Response, reservation_id: UUID) -> None:
        command = purchase(self._service, requests.body(req, PurchaseBody), reservation_id, common(req))
        self._service.answer(req, resp, command)


class Return:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post(self, req: falcon.Request, resp: falcon.Response, reservation_id: UUID) -> None:
        command = take_back(requests.body(req, LinesBody), reservation_id, common(req))
        self._service.answer(req, resp, command)
