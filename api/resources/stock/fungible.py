"""/api/fungible: products of which one piece is as good as another."""

import secrets
from collections.abc import Callable
from urllib.parse import quote

import falcon

from api.http import answers, cursors, point_in_time, requests
from api.http.schemas import ReasonBody
from api.http.service import Common, Service, common, unconditional
from api.resources.reservations.command_builders import reserve
from api.resources.reservations.schemas import ReserveBody
from api.resources.stock.command_builders import add, put_fungible, remove
from api.resources.stock.schemas import FungibleAnswer, FungibleBody
from ledger.catalogue.products import require
from ledger.commands import Command, Precondition
from ledger.identifiers import identifier, quantity
from projections import as_of
from projections.stock import stock_levels


class Products:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        requests.known_parameters(req, "limit", "cursor")
        limit, after = requests.limit(req), cursors.decode(req.get_param("cursor"), "")
        position, found = self._service.reader.read(lambda conn: stock_levels.page(conn, after, limit + 1))
        shown = [(product.sku, FungibleAnswer.of(product, stock)) for product, stock in found]
        answers.page(resp, shown, limit, position)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        # Should the generated SKU be taken by the rarest of chances, nothing of that product may change.
        command = put_fungible(
            requests.body(req, FungibleBody),
            secrets.token_hex(8).upper(),
            unconditional(req) | {"precondition": Precondition(frozenset())},
        )
        made = self._service.answer(req, resp, command)
        resp.set_header("Location", "/api/fungible/" + quote(made.sku, safe=""))


class Product:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_get(self, req: falcon.Request, resp: falcon.Response, sku: str) -> None:
        sku = identifier(sku, "sku")
        requests.known_parameters(req, *point_in_time.PARAMETERS)
        reader = self._service.reader
        if (then := point_in_time.asked(req, reader)) is None:
            position, product, stock, lapsed = reader.fungibles.get(sku)
        else:
            product, stock = reader.read(lambda conn: as_of.fungible(conn, sku, then))
            position, lapsed = then, 0
            point_in_time.keep(resp)
        with answers.reflecting(position):
            payload = FungibleAnswer.of(require(product, sku, "fungible"), stock)
        answers.versioned(req, resp, payload, payload.version, position, lapsed)

    def on_put(self, req: falcon.Request, resp: falcon.Response, sku: str) -> None:
        command = put_fungible(requests.body(req, FungibleBody), identifier(sku, "sku"), common(req))
        self._service.answer(req, resp, command)


class Movement:
    """add and remove."""

    intent: Callable[[ReasonBody, str, int, Common], Command]

    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post(self, req: falcon.Request, resp: falcon.Response, sku: str, quantity_text: str) -> None:
        sku, moved = identifier(sku, "sku"), quantity(quantity_text)
        command = self.intent(requests.body(req, ReasonBody), sku, moved, common(req))
        self._service.answer(req, resp, command)


class Add(Movement):
    intent = staticmethod(add)


class Remove(Movement):
    intent = staticmethod(remove)


class Reserve:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post(self, req: falcon.Request, resp: falcon.Response, sku: str, quantity_text: str) -> None:
        sku, wanted = identifier(sku, "sku"), quantity(quantity_text)
        command = reserve(self._service, requests.body(req, ReserveBody), sku, wanted, common(req))
        self._service.answer(req, resp, command)
