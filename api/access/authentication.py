"""The door: every request to a route shows who calls, or is refused before anything is read or done.

What never lives here: which method asks for which scope (app.py), how a key is known (keys.py, tokens.py).
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

import falcon

from api.access.rate_limits import Failures
from api.access.scopes import NOBODY, Caller, ForbiddenError, RateLimitedError, Scope, UnauthorizedError
from ledger.errors import UnavailableError

Needs = Mapping[str, Mapping[str, tuple[Scope, ...]]]


class Known(Protocol):
    """Who a credential belongs to, or None; raises UnavailableError when that cannot be said now."""

    def find(self, credential: str, /) -> Caller | None: ...


class Authentication:
    """`needs` holds for each template and method the scopes of which one is enough, and none for an open one.

    A path that there is not is told to anybody, since the paths are public; everything else takes a key first, also
    a method that a path does not have.
    """

    def __init__(self, needs: Needs, known: Known) -> None:
        self._needs = needs
        self._known = known
        self._failures = Failures()

    def process_resource(self, req: falcon.Request, _resp: falcon.Response, _resource: object, _params: object) -> None:
        assert req.uri_template is not None, "there is a resource, so a route was found"
        needs = self._needs[req.uri_template].get(req.method)
        credential = _credential(req.env.get("HTTP_AUTHORIZATION"))
        if needs == () or (needs is None and req.method == "OPTIONS"):
            if credential is not None:  # some open answers tell more to those who may know
                with suppress(UnavailableError):
                    req.context.caller = self._known.find(credential) or NOBODY
            return
        caller = self._caller(req.env.get("REMOTE_ADDR", ""), credential)
        if caller.bucket is not None and (wait := caller.bucket.take(time.monotonic())):
            raise RateLimitedError(f"with the key {caller.actor!r}", wait)
        if needs is not None and caller.scopes.isdisjoint(needs):
            raise ForbiddenError(caller.actor, *needs)
        req.context.caller = caller

    def _caller(self, address: str, credential: str | None) -> Caller:
        caller = None if credential is None else self._known.find(credential)
        if caller is not None:
            return caller
        if credential is None:
            raise UnauthorizedError(shown=False)
        if wait := self._failures.wait(address):
            raise RateLimitedError("without a valid key", wait)
        self._failures.add(address)
        raise UnauthorizedError(shown=True)


def _credential(header: str | None) -> str | None:
    """What follows `Bearer` (RFC 6750, 2.1); anything else that a caller sends is a key that is not valid."""
    if header is None:
        return None
    if header.startswith("Bearer "):  # as nearly everybody writes it
        return header[7:].strip()
    scheme, _, credential = header.partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else ""
