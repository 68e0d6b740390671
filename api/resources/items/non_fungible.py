"""/api/non-fungible: single pieces, each with its serial number."""

import falcon

from api.http import answers, cursors, point_in_time, requests
from api.http.schemas import ReasonBody
from api.http.service import Service, common
from api.resources.items.command_builders import put_item
from api.resources.items.schemas import ItemAnswer, ItemBody, NonFungibleAnswer
from api.resources.reservations.command_builders import release_item, reserve_item
from api.resources.reservations.schemas import ReserveBody
from ledger.catalogue.products import require
from ledger.identifiers import identifier
from ledger.items import items as item_rules
from projections import as_of
from projections.items import items


class Products:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        requests.known_parameters(req, "limit", "cursor")
        limit, after = requests.limit(req), cursors.decode(req.get_param("cursor"), "")
        position, found = self._service.reader.read(lambda conn: items.products_page(conn, after, limit + 1))
        answers.page(resp, [(c.product.sku, NonFungibleAnswer.of(c)) for c in found], limit, position)


class Product:
    """A product with counts and a page of its items."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def on_get(self, req: falcon.Request, resp: falcon.Response, sku: str) -> None:
        sku = identifier(sku, "sku")
        requests.known_parameters(req, "limit", "cursor")
        limit, after = requests.limit(req), cursors.decode(req.get_param("cursor"), "")
        position, counted, found = self._service.reader.read(lambda conn: items.page(conn, sku, after, limit + 1))
        with answers.reflecting(position):
            product = require(counted.product if counted else None, sku, "non-fungible")
        assert counted is not None, "the product was required"
        shown = [ItemAnswer.of(product, item) for item in found[:limit]]
        next_cursor = cursors.encode(shown[-1].sn) if len(found) > limit else None
        answers.answer(resp, NonFungibleAnswer.of(counted, shown, next_cursor), position)


class Item:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_get(self, req: falcon.Request, resp: falcon.Response, sku: str, sn: str) -> None:
        sku, sn = identifier(sku, "sku"), identifier(sn, "sn")
        requests.known_parameters(req, *point_in_time.PARAMETERS)
        reader = self._service.reader
        if (then := point_in_time.asked(req, reader)) is None:
            position, product, item, lapsed = reader.read(lambda conn: items.get(conn, sku, sn))
        else:
            product, item = reader.read(lambda conn: as_of.item(conn, sku, sn, then))
            position, lapsed = then, False
            point_in_time.keep(resp)
        with answers.reflecting(position):
            payload = ItemAnswer.of(require(product, sku, "non-fungible"), item_rules.require(item, sku, sn))
        answers.versioned(req, resp, payload, payload.version, position, int(lapsed))

    def on_put(self, req: falcon.Request, resp: falcon.Response, sku: str, sn: str) -> None:
        sku, sn = identifier(sku, "sku"), identifier(sn, "sn")
        command = put_item(requests.body(req, ItemBody), sku, sn, common(req))
        self._service.answer(req, resp, command)


class ItemReservation:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_put(self, req: falcon.Request, resp: falcon.Response, sku: str, sn: str) -> None:
        sku, sn = identifier(sku, "sku"), identifier(sn, "sn")
        command = reserve_item(self._service, requests.body(req, ReserveBody), sku, sn, common(req))
        self._service.answer(req, resp, command)

    def on_delete(self, req: falcon.Request, resp: falcon.Response, sku: str, sn: str) -> None:
        sku, sn = identifier(sku, "sku"), identifier(sn, "sn")
        command = release_item(requests.body(req, ReasonBody), sku, sn, common(req))
        self._service.answer(req, resp, command)
