"""/api/fungible: products of which one piece is as good as another."""

import secrets
from urllib.parse import quote

import falcon
from msgspec.structs import replace

from api import answers, cursors, requests
from api.schemas import FungibleAnswer, FungibleBody, ReasonBody, ReserveBody
from api.service import Service, common, fingerprint, new_id
from ledger.commands import AddStock, Line, MakeReservation, Precondition, ProductChanges, PutFungible, RemoveStock
from ledger.errors import UnknownProductError
from ledger.identifiers import identifier, quantity
from ledger.products import require
from projections import stock_levels

_CHANGES = ("name", "description", "color", "unit_price_cents", "shipping_weight_grams")


def _put(req: falcon.Request, sku: str) -> PutFungible:
    body = requests.body(req, FungibleBody)
    changes = ProductChanges(**requests.given(body, *_CHANGES))
    return PutFungible(sku=sku, changes=changes, amount_in_stock=body.amount_in_stock, **common(req))


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
        command = replace(_put(req, secrets.token_hex(8).upper()), precondition=Precondition(frozenset()))
        outcome = self._service.ledger.handle(command)
        made = answers.fungible(req, resp, outcome)
        resp.set_header("Location", "/api/fungible/" + quote(made.sku, safe=""))


class Product:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_get(self, req: falcon.Request, resp: falcon.Response, sku: str) -> None:
        sku = identifier(sku, "sku")
        requests.known_parameters(req)
        position, product, stock = self._service.reader.read(lambda conn: stock_levels.get(conn, sku))
        try:
            found = require(product, sku, "fungible")
        except UnknownProductError as error:
            error.position = position
            raise
        answers.versioned(req, resp, FungibleAnswer.of(found, stock), position)

    def on_put(self, req: falcon.Request, resp: falcon.Response, sku: str) -> None:
        outcome = self._service.ledger.handle(_put(req, identifier(sku, "sku")))
        answers.fungible(req, resp, outcome)


class Movement:
    """add and remove."""

    def __init__(self, service: Service, command: type[AddStock] | type[RemoveStock]) -> None:
        self._service = service
        self._command = command

    def on_post(self, req: falcon.Request, resp: falcon.Response, sku: str, quantity_text: str) -> None:
        sku, moved = identifier(sku, "sku"), quantity(quantity_text)
        body = requests.body(req, ReasonBody)
        command = self._command(sku=sku, quantity=moved, reason=body.reason, reference=body.reference, **common(req))
        answers.fungible(req, resp, self._service.ledger.handle(command))


class Reserve:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post(self, req: falcon.Request, resp: falcon.Response, sku: str, quantity_text: str) -> None:
        sku, wanted = identifier(sku, "sku"), quantity(quantity_text)
        body = requests.body(req, ReserveBody)
        ttl = self._service.ttl(body.ttl_seconds)
        command = MakeReservation(
            reservation_id=body.reservation_id or new_id(),
            lines=(Line(sku, wanted),),
            ttl_seconds=ttl,
            owner=body.owner,
            reason=body.reason,
            reference=body.reference,
            fingerprint=fingerprint(body.reservation_id, sku, wanted, ttl, body.owner, body.reference),
            **common(req),
        )
        answers.fungible(req, resp, self._service.ledger.handle(command))
