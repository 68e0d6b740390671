"""/openapi.json, and /docs that shows it in a browser with files of our own, asking no other host for anything."""

import gzip
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files

import falcon
import msgspec

from api.http import requests
from api.http.routes import Route
from api.openapi.document import document
from api.openapi.page import FILES

FOR_EVER = "public, max-age=31536000, immutable"
# The page's scripts set styles of single elements, and its pictures are in its style sheet.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TAKES_GZIP = re.compile(r"\bgzip\s*(?:,|$|;\s*q=(?:1|0\.0*[1-9]))", re.IGNORECASE)


@cache
def encoded(routes: Sequence[Route]) -> tuple[bytes, str]:
    """The bytes of the document of these routes, and their ETag."""
    data = msgspec.json.encode(document(routes))
    return data, f'"{hashlib.sha256(data).hexdigest()[:32]}"'


@cache
def _kept(name: str) -> tuple[bytes, bool]:
    """A file's bytes, and whether they are compressed."""
    folder = files("api.openapi") / "static"
    packed = folder / f"{name}.gz"
    return (packed.read_bytes(), True) if packed.is_file() else ((folder / name).read_bytes(), False)


class OpenApi:
    """`routes` gives the route table, which has this among it."""

    def __init__(self, routes: Callable[[], Sequence[Route]]) -> None:
        self._routes = routes

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        requests.known_parameters(req)
        data, etag = encoded(self._routes())
        resp.set_header("ETag", etag)
        resp.set_header("Cache-Control", "no-cache")
        if requests.is_known(req, etag):
            resp.status = falcon.HTTP_304
            return
        resp.content_type = falcon.MEDIA_JSON
        resp.data = data


class Page:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        requests.known_parameters(req)
        resp.content_type = "text/html; charset=utf-8"
        resp.set_header("Content-Security-Policy", POLICY)
        resp.data, _ = _kept("page.html")


class File:
    def on_get(self, req: falcon.Request, resp: falcon.Response, file: str) -> None:
        requests.known_parameters(req)
        if file not in FILES:
            raise falcon.HTTPNotFound
        resp.content_type = FILES[file]
        resp.set_header("Cache-Control", FOR_EVER)
        data, is_packed = _kept(file)
        if is_packed:
            resp.set_header("Vary", "Accept-Encoding")
            if _TAKES_GZIP.search(req.get_header("Accept-Encoding") or ""):
                resp.set_header("Content-Encoding", "gzip")
            else:
                data = gzip.decompress(data)
        resp.data = data
