"""The account statement of a product or an item: every event, who did it and why, and the balance after it."""

from typing import Any

import falcon
import msgspec

from api.http import answers, cursors, point_in_time, requests
from api.http.service import Service
from ledger.catalogue import products
from ledger.catalogue.events import Kind
from ledger.errors import InvalidError
from ledger.events import EVENTS
from ledger.identifiers import identifier
from ledger.items import items
from ledger.store.connection import BoundedConnection
from ledger.store.entry_lines import StoredEntry
from ledger.store.point_in_time import Statement, first_entry, statement
from ledger.streams import item_stream, product_stream, stock_stream

_PARAMETERS = ("limit", "cursor", "order", "from", "to", "event")
ORDERS = ("asc", "desc")
# The balance as the answers name it.
WIRE_NAMES = {"on_hand": "amount_in_stock", "reserved": "reserved_quantity"}


class FungibleHistory:
    """What a product is, and what came, went and was held of it."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def on_get(self, req: falcon.Request, resp: falcon.Response, sku: str) -> None:
        sku = identifier(sku, "sku")
        _answer(self._service, req, resp, sku, None)


class ItemHistory:
    """What happened to an item, and what its product is."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def on_get(self, req: falcon.Request, resp: falcon.Response, sku: str, sn: str) -> None:
        sku, sn = identifier(sku, "sku"), identifier(sn, "sn")
        _answer(self._service, req, resp, sku, sn)


def flat(entry: StoredEntry) -> dict[str, Any]:
    """An entry of a statement: its place, and beside it the event's own members."""
    members = msgspec.json.decode(entry.state)
    return {
        "position": entry.position,
        "recorded_at": entry.recorded_at,
        "version": entry.version,
        "event": entry.name,
        **{WIRE_NAMES.get(name, name): value for name, value in members.items()},
    }


def streams(sku: str, sn: str | None) -> list[str]:
    """The product's stream, and its stock's or the item's."""
    return [product_stream(sku), stock_stream(sku) if sn is None else item_stream(sku, sn)]


def _answer(service: Service, req: falcon.Request, resp: falcon.Response, sku: str, sn: str | None) -> None:
    requests.known_parameters(req, *_PARAMETERS)
    limit, names, backward = requests.limit(req), _names(req), _is_backward(req)
    cursor = cursors.decode(req.get_param("cursor"), 0)
    position, after, upto = point_in_time.range_of(req, service.reader)
    if cursor and backward:
        upto = min(upto, cursor - 1)
    after = max(after, cursor) if not backward else after

    def read(conn: BoundedConnection) -> Statement:
        require(conn, sku, sn)
        return statement(conn, streams(sku, sn), after, upto, limit, backward=backward, names=names)

    with answers.reflecting(position):
        found = service.reader.read(read)
    next_cursor = None if found.cursor is None else cursors.encode(found.cursor)
    answers.answer(resp, answers.Page([flat(entry) for entry in found.entries], next_cursor), position)


def require(conn: BoundedConnection, sku: str, sn: str | None) -> None:
    """Raises UnknownProductError, OtherKindError or UnknownItemError."""
    product, other = (first_entry(conn, stream) for stream in streams(sku, sn))
    kind: Kind = "fungible" if sn is None else "non-fungible"
    products.require(None if product is None else products.evolve(None, product), sku, kind)
    if sn is not None:
        items.require(None if other is None else items.evolve(None, other), sku, sn)


def _is_backward(req: falcon.Request) -> bool:
    order = req.get_param("order", default="asc")
    if order not in ORDERS:
        raise InvalidError({"order": f"must be one of {', '.join(ORDERS)}"})
    return order == "desc"


def _names(req: falcon.Request) -> list[str] | None:
    """Stored names of the events asked for, each given with or without its version; None for all.

    Raises InvalidError.
    """
    given = {name for text in req.get_param_as_list("event") or () for name in text.split(",")}
    if not given:
        return None
    unknown = sorted(name for name in given if not _known(name))
    if unknown:
        raise InvalidError({"event": f"is not the name of an event: {unknown[0]!r}"})
    return sorted({stored for name in given for stored in _known(name)})


def _known(name: str) -> list[str]:
    return [stored for stored in EVENTS if name in (stored, stored.partition(".")[0])]
