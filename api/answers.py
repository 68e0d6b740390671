"""Writing answers: JSON, and the headers that say what log position and version they reflect."""

from collections.abc import Sequence
from typing import Any

import falcon
import msgspec
from msgspec import Struct

from api import cursors
from api.schemas import FungibleAnswer, ItemAnswer, ReservationAnswer, ShortageAnswer
from ledger.decide import Outcome

_encoder = msgspec.json.Encoder()


class Page(Struct, frozen=True):
    items: Sequence[Any]
    next_cursor: str | None


def answer(resp: falcon.Response, payload: object, position: int) -> None:
    resp.content_type = "application/json"
    resp.set_header("Ledger-Position", str(position))
    resp.data = _encoder.encode(payload)


def versioned(req: falcon.Request, resp: falcon.Response, payload: FungibleAnswer | ItemAnswer, position: int) -> None:
    """Answer with an ETag; 304 to a GET whose If-None-Match names it (RFC 9110, 13.1.2)."""
    answer(resp, payload, position)
    etag = f'"{payload.version}"'
    resp.set_header("ETag", etag)
    if req.method == "GET" and (known := req.get_header("If-None-Match")) is not None:
        names = {name.strip().removeprefix("W/") for name in known.split(",")}
        if etag in names or "*" in names:
            resp.status = falcon.HTTP_304
            resp.data = None


def page(resp: falcon.Response, found: Sequence[tuple[str | int, Any]], limit: int, position: int) -> None:
    """Answer with the first `limit` of (sort key, item) pairs; one more than that means there is a next page."""
    shown = found[:limit]
    next_cursor = cursors.encode(shown[-1][0]) if len(found) > limit else None
    answer(resp, Page([item for _, item in shown], next_cursor), position)


def fungible(req: falcon.Request, resp: falcon.Response, outcome: Outcome) -> FungibleAnswer:
    """The product as a command left it, with the reservation if it made one."""
    product, stock, made = outcome.product, outcome.stock, outcome.reservation
    assert product is not None and stock is not None, "the rule required it"
    payload = FungibleAnswer.of(product, stock, ReservationAnswer.of(made) if made else None)
    versioned(req, resp, payload, outcome.position)
    _mark_replay(resp, outcome)
    return payload


def item(req: falcon.Request, resp: falcon.Response, outcome: Outcome) -> None:
    product, found = outcome.product, outcome.item
    assert product is not None and found is not None, "the rule required it"
    versioned(req, resp, ItemAnswer.of(product, found), outcome.position)
    _mark_replay(resp, outcome)


def reservation(resp: falcon.Response, outcome: Outcome) -> None:
    """The reservation as a command left it, with what it could not get if it is a partial one."""
    assert outcome.reservation is not None, "the rule required it"
    payload = ReservationAnswer.of(outcome.reservation)
    if outcome.missing:
        missing = [ShortageAnswer.of(short, {}) for short in outcome.missing]
        payload = msgspec.structs.replace(payload, missing=missing)
    answer(resp, payload, outcome.position)
    _mark_replay(resp, outcome)


def _mark_replay(resp: falcon.Response, outcome: Outcome) -> None:
    if outcome.replayed:
        resp.set_header("Idempotent-Replayed", "true")
