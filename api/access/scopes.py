"""Who calls and what they may do: callers, what each command asks for, and how that is refused.

What never lives here: keys and tokens (keys.py, tokens.py), which method asks for what (app.py).
"""

import math
from collections.abc import Iterable
from typing import Literal, get_args

import falcon

from api.access.rate_limits import Bucket
from ledger.errors import LedgerError, UnavailableError

# What a key may be allowed.
Scope = Literal["catalog:write", "stock:write", "reservations:write", "read", "audit:read", "admin"]
# None of them holds another: a key that may do everything names them all.
SCOPES: tuple[Scope, ...] = get_args(Scope)

ACTOR_WITHOUT_KEYS = "anonymous"


class Caller:
    """`actor` is who its events name; `bucket` is what its requests are taken from, if they are limited."""

    __slots__ = ("actor", "bucket", "scopes")

    def __init__(self, actor: str, scopes: frozenset[str], bucket: Bucket | None = None) -> None:
        self.actor = actor
        self.scopes = scopes
        self.bucket = bucket


# Everybody, where keys are off; and who has shown no key, where they are on.
ANYBODY = Caller(ACTOR_WITHOUT_KEYS, frozenset(SCOPES))
NOBODY = Caller("nobody", frozenset())


class AccessError(LedgerError):
    """Refused at the door, before anything was read or done; `headers` belong to the answer."""

    headers: dict[str, str]


class UnauthorizedError(AccessError):
    """No key, or one that does not count; which of the reasons it is, is told to nobody."""

    def __init__(self, *, shown: bool) -> None:
        what = "The key is not valid: unknown, revoked or over." if shown else "A key is needed."
        super().__init__(f"{what} Send it as 'Authorization: Bearer <key>'.")
        error = ', error="invalid_token"' if shown else ""
        self.headers = {"WWW-Authenticate": f'Bearer realm="stockledger"{error}'}


class ForbiddenError(AccessError):
    """The key lacks a scope; any one of `wanted` would do."""

    def __init__(self, actor: str, *wanted: Scope) -> None:
        super().__init__(
            f"The key {actor!r} lacks the scope {' or '.join(wanted)}.", actor=actor, required_scopes=list(wanted)
        )
        challenge = f'Bearer realm="stockledger", error="insufficient_scope", scope="{" ".join(wanted)}"'
        self.headers = {"WWW-Authenticate": challenge}


class RateLimitedError(AccessError):
    def __init__(self, whose: str, seconds: float) -> None:
        super().__init__(f"Too many requests {whose}: wait before the next.")
        self.headers = {"Retry-After": str(max(1, math.ceil(seconds)))}


class ForeignPageError(AccessError):
    """A browser calls for a page that may not; `detail` says what is wrong with it."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.headers = {}


class IssuerAwayError(UnavailableError):
    def __init__(self) -> None:
        super().__init__("The keys of the tokens' issuer could not be read for too long.")


def permit(caller: Caller, wanted: Iterable[Scope]) -> None:
    """Raises ForbiddenError for the first of the scopes that the caller lacks."""
    for scope in wanted:
        if scope not in caller.scopes:
            raise ForbiddenError(caller.actor, scope)


def may(req: falcon.Request, *wanted: Scope) -> bool:
    """Whether who asks has one of the scopes; for answers that tell some callers more than others."""
    caller: Caller = req.context.caller
    return not caller.scopes.isdisjoint(wanted)
