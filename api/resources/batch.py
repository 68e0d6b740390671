"""POST /api/batch: many commands in one request, each for itself or all or nothing."""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal, Union

import falcon
import msgspec
from msgspec import Meta, Struct

from api.access.scopes import Caller, ForbiddenError
from api.http import answers, problems, requests
from api.http.schemas import Body
from api.http.service import Common, Service, unconditional
from api.room import BatchCommand
from ledger.commands import Command, Key
from ledger.engine.batch import Result
from ledger.errors import AbandonedError, InvalidError, KeyReusedError, LedgerError

MAX_COMMANDS = 1_000


class BatchBody(Body, frozen=True, kw_only=True):
    mode: Literal["each", "all"] = "each"
    commands: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MAX_COMMANDS)]


class Entry(Struct, frozen=True, omit_defaults=True):
    """`replayed` when the command had been carried out before under its key."""

    status: int
    body: Any
    replayed: bool = False


class BatchCommands:
    """The commands that a batch may hold. Raises TypeError when two of them have the same name."""

    def __init__(self, commands: Sequence[BatchCommand]) -> None:
        self.shape: Any = Union[tuple(command.shape for command in commands)]  # noqa: UP007  # put together here
        self.exactly = {command.shape.__name__: command.exactly for command in commands if command.exactly}
        self._build = {command.shape: command.build for command in commands}
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self.shape)

    def decode(self, raw: bytes) -> Any:
        """One of the shapes; raises InvalidError."""
        try:
            return self._decoder.decode(raw)
        except msgspec.ValidationError as error:
            raise InvalidError({"command": f"is invalid: {error}"}) from None

    def build(self, service: Service, intent: Any, common: Common) -> Command:
        return self._build[type(intent)](service, intent, common)


class Batch:
    def __init__(self, commands: BatchCommands, service: Service) -> None:
        self._commands = commands
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
        _answer(self._service, resp, body.mode, commands, settled)

    def _command(
        self, number: int, raw: msgspec.Raw, common: Common, caller: Caller
    ) -> Command | InvalidError | ForbiddenError:
        """The command, with a key of its own or one derived from the request's; or why it is not carried out."""
        try:
            intent = self._commands.decode(bytes(raw))
            key = _key(intent, bytes(raw), number, common["key"])
            command = self._commands.build(self._service, intent, common | {"key": key, "precondition": None})
            self._service.permit(caller, command)
            return command
        except (InvalidError, ForbiddenError) as error:
            return error


def _key(intent: Any, raw: bytes, number: int, request_key: Key | None) -> Key | None:
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
    service: Service,
    resp: falcon.Response,
    mode: str,
    commands: Sequence[Command | LedgerError],
    results: Sequence[Result],
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
    entries = [_entry(service, command, result) for command, result in zip(commands, results, strict=True)]
    answers.answer(resp, {"results": entries}, position)
    if not refusals and all(not isinstance(result, LedgerError) and result.replayed for result in results):
        resp.set_header("Idempotent-Replayed", "true")


def _entry(service: Service, command: Command | LedgerError, result: Result) -> Entry:
    if isinstance(result, LedgerError):
        return Entry(*problems.problem_of(result))
    assert isinstance(command, Command), "what is refused has no outcome"
    return Entry(*service.answer_to(command, result), replayed=result.replayed)
