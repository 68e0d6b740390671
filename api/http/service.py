"""What responders work with, and what every command carries besides its own members."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import falcon
from msgspec import UNSET, Struct, UnsetType, field

from api.access.scopes import Caller, Scope, permit
from api.http import answers, requests
from api.telemetry.process import Telemetry
from ledger.commands import Command
from ledger.engine.ledger import Ledger
from ledger.errors import InvalidError
from ledger.outcome import Outcome
from projections.reader import Reader

Common = dict[str, Any]


class CommandCall(Struct, frozen=True):
    """How callers meet one class of command, in its single call and in batches alike.

    `scopes` are all that it asks for, `answer` the status and body that say what it left behind, `version` what that
    has for an ETag where the body does not say it.
    """

    scopes: Callable[[Any], tuple[Scope, ...]]
    answer: Callable[[Any, Any], tuple[int, Any]]
    version: Callable[[Any, Any], int] | None = None


class Service(Struct, frozen=True):
    """What responders work with; `commands` is filled in by create_app, from the rooms."""

    ledger: Ledger
    reader: Reader
    reservation_ttl_seconds: int
    expiry_lag_limit_seconds: float = 60
    follower_lag_limit_seconds: float = 300
    telemetry: Telemetry = field(default_factory=Telemetry.alone)
    commands: Mapping[type[Command], CommandCall] = {}

    def answer(self, req: falcon.Request, resp: falcon.Response, command: Command) -> Any:
        """Have a command carried out and answer with what it left behind; returns the body.

        Raises ForbiddenError if the caller lacks a scope that the command asks for.
        """
        req.context.command = command  # for the log and for traces
        self.permit(req.context.caller, command)
        outcome = self.ledger.handle(command)
        status, body = self.answer_to(command, outcome)
        asked = self.commands[type(command)].version
        version = getattr(body, "version", None) if asked is None else asked(command, outcome)
        answers.handled(req, resp, status, body, outcome, version)
        return body

    def permit(self, caller: Caller, command: Command) -> None:
        """Raises ForbiddenError if the caller lacks a scope that the command asks for."""
        permit(caller, self.commands[type(command)].scopes(command))

    def answer_to(self, command: Command, outcome: Outcome) -> tuple[int, Any]:
        """Status and body of what a command left behind, the same for its single call and in a batch."""
        return self.commands[type(command)].answer(command, outcome)

    def ttl(self, asked: int | UnsetType) -> int:
        """How long a hold lasts, in seconds."""
        return self.reservation_ttl_seconds if asked is UNSET else asked


def common(req: falcon.Request) -> Common:
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


def unconditional(req: falcon.Request) -> Common:
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
