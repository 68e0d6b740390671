"""POST /api/batch: many commands in one request, each for itself or all or nothing."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import falcon
import msgspec
from msgspec import Meta, Struct

from api.access.scopes import Caller, ForbiddenError, permit
from api.http import answers, problems, requests
from api.http.common_members import Common
from api.http.schemas import Body
from api.http.service import Service, unconditional
from api.resources.catalogue.batch_commands import Put, _put
from api.resources.reservations.batch_commands import Extend, Purchase, Release, Reserve, Return, _release, _reserve
from api.resources.reservations.command_builders import extend, purchase, take_back
from api.resources.stock.batch_commands import Add, Remove
from api.resources.stock.command_builders import add, remove
from ledger.commands import Command, Key
from ledger.engine.batch import Result
from ledger.errors import AbandonedError, InvalidError, KeyReusedError, LedgerError
from ledger.identifiers import identifier

MAX_COMMANDS = 1_000


Intent = Add | Remove | Reserve | Release | Extend | Purchase | Return | Put


_decoder: msgspec.json.Decoder[Intent] = msgspec.json.Decoder(Intent)


class BatchBody(Body, frozen=True, kw_only=True):
    mode: Literal["each", "all"] = "each"
    commands: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MAX_COMMANDS)]


class Entry(Struct, frozen=True):
    status: int
    body: Any


class Batch:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = requests.body(req, BatchBody)
        common = unconditional(req)
        caller: Caller = req.context.caller
        if caller.bucket is not None:
            caller.bucket.charge(len(body.commands) - 1)  # the first was taken at the door
        commands = [self._command(number, raw, common, caller) for number, raw in enumerate(body.commands)]
        if body.mode == "all":
            _require_valid(commands)
        valid = [command for command in commands if isinstance(command, Command)]
        handle = partial(self._service.ledger.handle_many, atomic=body.mode == "all", key=common["key"])
        results = iter(handle(valid) if valid else ())
        settled = [next(results) if isinstance(command, Command) else command for command in commands]
        if common["key"] is not None and any(isinstance(result, KeyReusedError) for result in settled):
            raise KeyReusedError(common["key"].key)
        _answer(resp, body.mode, commands, settled)

    def _command(
        self, number: int, raw: msgspec.Raw, common: Common, caller: Caller
    ) -> Command | InvalidError | ForbiddenError:
        """The command, with a key of its own or one derived from the request's; or why it is not carried out."""
        try:
            intent = _decode(bytes(raw))
            key = _key(intent, bytes(raw), number, common["key"])
            command = _BUILD[type(intent)](self._service, intent, common | {"key": key, "precondition": None})
            permit(caller, command)
            return command
        except (InvalidError, ForbiddenError) as error:
            return error


def _decode(raw: bytes) -> Intent:
    try:
        return _decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise InvalidError({"command": f"is invalid: {error}"}) from None


def _key(intent: Intent, raw: bytes, number: int, request_key: Key | None) -> Key | None:
    if intent.idempotency_key is not None:
        return Key(intent.idempotency_key, hashlib.sha256(b"batch\0" + raw).digest())
    return None if request_key is None else Key(f"{request_key.key}#{number}", request_key.request_hash)


def _require_valid(commands: Sequence[Command | LedgerError]) -> None:
    """Raises ForbiddenError, or InvalidError naming every bad member of every bad command."""
    for command in commands:
        if isinstance(command, ForbiddenError):
            raise command
    bad = {
        f"commands[{number}].{member}": must
        for number, command in enumerate(commands)
        if isinstance(command, InvalidError)
        for member, must in command.members["errors"].items()
    }
    if bad:
        raise InvalidError(bad)


def _answer(
    resp: falcon.Response, mode: str, commands: Sequence[Command | LedgerError], results: Sequence[Result]
) -> None:
    refusals = [number for number, result in enumerate(results) if isinstance(result, LedgerError)]
    position = max((result.position or 0 for result in results), default=0)
    if mode == "all" and refusals:
        cause = next(n for n in refusals if not isinstance(results[n], AbandonedError))
        refusal = results[cause]
        assert isinstance(refusal, LedgerError), "it was found among the refusals"
        problems.write(resp, *problems.batch_problem(cause, refusal))
        resp.set_header("Ledger-Position", str(refusal.position or 0))
        return
    entries = [_entry(command, result) for command, result in zip(commands, results, strict=True)]
    answers.answer(resp, {"results": entries}, position)
    if not refusals and all(not isinstance(result, LedgerError) and result.replayed for result in results):
        resp.set_header("Idempotent-Replayed", "true")


def _entry(command: Command | LedgerError, result: Result) -> Entry:
    if isinstance(result, LedgerError):
        return Entry(*problems.problem_of(result))
    assert isinstance(command, Command), "what is refused has no outcome"
    return Entry(*answers.payload(command, result))


_BUILD: dict[type[Any], Callable[[Service, Any, Common], Command]] = {
    Add: lambda _, i, common: add(i, identifier(i.sku, "sku"), i.quantity, common),
    Remove: lambda _, i, common: remove(i, identifier(i.sku, "sku"), i.quantity, common),
    Reserve: _reserve,
    Release: _release,
    Extend: lambda service, i, common: extend(service, i, i.reservation_id, common),
    Purchase: lambda _, i, common: purchase(i, i.reservation_id, common),
    Return: lambda _, i, common: take_back(i, i.reservation_id, common),
    Put: _put,
}
