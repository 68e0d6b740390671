"""What pages in browsers may do: read nothing unless their origin is named (CORS), and where no key is asked for, not
even call.

Any page can have a browser call an address of its user's own machine. A key would keep it out; where there is none, the
names of the page and of the host that it believes to call have to.
"""

from collections.abc import Set
from http import HTTPMethod
from urllib.parse import urlsplit

import falcon

from api.access.scopes import ForeignPageError

METHODS = ", ".join([HTTPMethod.GET, HTTPMethod.HEAD, HTTPMethod.POST, HTTPMethod.PUT, HTTPMethod.DELETE])
SENT = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-Id"
SHOWN = "ETag, Idempotent-Replayed, Ledger-Lag, Ledger-Position, Ledger-Time, Location, Retry-After, X-Request-Id"
PREFLIGHT_SECONDS = 600
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Cors:
    """Lets pages of `origins` call and read the answers. They send their key themselves: cookies count for nothing."""

    def __init__(self, origins: Set[str]) -> None:
        self._origins = origins

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        asked = req.get_header("Access-Control-Request-Method")
        if req.method == "OPTIONS" and asked is not None and req.get_header("Origin") in self._origins:
            resp.status = falcon.HTTP_204
            resp.set_header("Access-Control-Allow-Methods", METHODS)
            resp.set_header("Access-Control-Allow-Headers", SENT)
            resp.set_header("Access-Control-Max-Age", str(PREFLIGHT_SECONDS))
            resp.complete = True

    def process_response(self, req: falcon.Request, resp: falcon.Response, _resource: object, _done: bool) -> None:
        resp.append_header("Vary", "Origin")
        origin = req.get_header("Origin")
        if origin is not None and origin in self._origins:
            resp.set_header("Access-Control-Allow-Origin", origin)
            resp.set_header("Access-Control-Expose-Headers", SHOWN)


class OwnPagesOnly:
    """Refuses what a page of another site has a browser send, also one whose name was made to mean this machine."""

    def __init__(self, origins: Set[str]) -> None:
        self._origins = origins
        self._hosts: set[str] = set()  # that were found to be in order

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        host, origin = req.env.get("HTTP_HOST"), req.env.get("HTTP_ORIGIN")
        if host is not None and host not in self._hosts:
            self._check_host(host)
        if origin is not None and origin not in self._origins and origin.partition("://")[2] != host:
            raise ForeignPageError(f"A page of {origin!r} may not call this service.")

    def _check_host(self, host: str) -> None:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            name = None
        if name not in _LOOPBACK:
            raise ForeignPageError(f"{host!r} is no name of this machine. With STOCKLEDGER_AUTH=on, any is fine.")
        if len(self._hosts) < 100:
            self._hosts.add(host)
