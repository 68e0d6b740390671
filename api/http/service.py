"""What responders work with, and what every command carries besides its own members."""

import hashlib
from typing import Any
from uuid import UUID

import falcon
from msgspec import UNSET, Struct, UnsetType, field

from api.access.scopes import permit
from api.http import answers, requests
from api.telemetry.process import Telemetry
from ledger.commands import Command
from ledger.engine.ledger import Ledger
from ledger.errors import InvalidError
from projections.reader import Reader


class Service(Struct, frozen=True):
    ledger: Ledger
    reader: Reader
    reservation_ttl_seconds: int
    expiry_lag_limit_seconds: float = 60
    follower_lag_limit_seconds: float = 300
    telemetry: Telemetry = field(default_factory=Telemetry.alone)

    def answer(self, req: falcon.Request, resp: falcon.Response, command: Command) -> Any:
        """Have a command carried out and answer with what it left behind; returns the body.

        Raises ForbiddenError if the caller lacks a scope that the command asks for.
        """
        req.context.command = command  # for the log and for traces
        permit(req.context.caller, command)
        return answers.handled(req, resp, command, self.ledger.handle(command))

    def ttl(self, asked: int | UnsetType) -> int:
        """How long a hold lasts, in seconds."""
        return self.reservation_ttl_seconds if asked is UNSET else asked


def common(req: falcon.Request) -> dict[str, Any]:
    """Members of every command: who asks, in which request, under which key and condition.

    A write takes no query parameters.
    """
    requests.known_parameters(req)
    return {
        "actor": req.context.caller.actor,
        "request_id": req.context.request_id,
        "key": requests.key(req),
        "precondition": requests.precondition(req),
    }


def unconditional(req: falcon.Request) -> dict[str, Any]:
    """The same for a command on what has no version; raises InvalidError for a precondition."""
    for header in ("If-Match", "If-None-Match"):
        if req.get_header(header) is not None:
            raise InvalidError({header: "has no meaning here: there is nothing that has a version"})
    return common(req)


def fingerprint(chosen: UUID | None, *content: object) -> str | None:
    """Identifies what a reservation asks for, where the caller chose its id; None where we do."""
    if chosen is None:
        return None
    return hashlib.sha256(repr(content).encode()).hexdigest()[:32]
