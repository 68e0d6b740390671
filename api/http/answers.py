"""Writing answers: JSON, and the headers that say what log position and version they reflect."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import falcon
import msgspec
from msgspec import Struct

from api.http import cursors, requests
from ledger.errors import LedgerError
from ledger.outcome import Outcome

_encoder = msgspec.json.Encoder()


class Page(Struct, frozen=True):
    items: Sequence[Any]
    next_cursor: str | None


def answer(resp: falcon.Response, payload: object, position: int) -> None:
    resp.content_type = "application/json"
    resp.set_header("Ledger-Position", str(position))
    resp.data = _encoder.encode(payload)


@contextmanager
def reflecting(position: int) -> Iterator[None]:
    """Errors raised within reflect this log position."""
    try:
        yield
    except LedgerError as error:
        error.position = position
        raise


def versioned(
    req: falcon.Request, resp: falcon.Response, payload: object, version: int, position: int, lapsed: int = 0
) -> None:
    """Answer with the version as ETag; 304 to a GET whose If-None-Match names it (RFC 9110, 13.1.2).

    `lapsed` units are shown as free because their hold is over by the clock, which the version does not count yet.
    """
    etag = f'"{version}-{lapsed}"' if lapsed else f'"{version}"'
    resp.set_header("ETag", etag)
    if req.method in ("GET", "HEAD") and requests.is_known(req, etag):
        resp.status = falcon.HTTP_304
        resp.set_header("Ledger-Position", str(position))
        return
    answer(resp, payload, position)


def page(resp: falcon.Response, found: Sequence[tuple[str | int, Any]], limit: int, position: int) -> None:
    """Answer with the first `limit` of (sort key, item) pairs; one more than that means there is a next page."""
    shown = found[:limit]
    next_cursor = cursors.encode(shown[-1][0]) if len(found) > limit else None
    answer(resp, Page([item for _, item in shown], next_cursor), position)


def handled(
    req: falcon.Request, resp: falcon.Response, status: int, body: Any, outcome: Outcome, version: int | None
) -> None:
    """Answer a single call with what its command left behind, and the version of that if it has one."""
    resp.status = status
    if version is not None:
        versioned(req, resp, body, version, outcome.position)
    else:
        answer(resp, body, outcome.position)
    if outcome.replayed:
        resp.set_header("Idempotent-Replayed", "true")
