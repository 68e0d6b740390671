"""POST /api/batch: many commands in one request, each for itself or all or nothing."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import falcon
import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from api import answers, intents, problems, requests
from api.access import Caller, ForbiddenError, permit
from api.schemas import Body, CartBody, ExtendBody, FungibleBody, ItemBody, Lines, LinesBody, ReasonBody, ReserveBody
from api.service import Service, unconditional
from ledger.commands import Command, Key
from ledger.engine.batch import Result
from ledger.errors import AbandonedError, InvalidError, KeyReusedError, LedgerError
from ledger.identifiers import Amount, Name, Quantity, identifier

MAX_COMMANDS = 1_000

OwnKey = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"\A[\x21-\x7e]*\Z")]


class Add(ReasonBody, tag_field="command", tag="add", frozen=True, kw_only=True):
    sku: Name
    quantity: Quantity
    idempotency_key: OwnKey | None = None


class Remove(Add, tag_field="command", tag="remove", frozen=True, kw_only=True):
    pass


class Reserve(ReserveBody, tag_field="command", tag="reserve", frozen=True, kw_only=True):
    """A quantity of a SKU, an item, or a cart's lines."""

    sku: Name | UnsetType = UNSET
    quantity: Quantity | UnsetType = UNSET
    sn: Name | UnsetType = UNSET
    lines: Lines | UnsetType = UNSET
    partial: bool | UnsetType = UNSET
    idempotency_key: OwnKey | None = None


class Release(ReasonBody, tag_field="command", tag="release", frozen=True, kw_only=True):
    """A reservation, some of its lines, or whatever holds an item."""

    reservation_id: UUID | UnsetType = UNSET
    lines: Lines | UnsetType = UNSET
    sku: Name | UnsetType = UNSET
    sn: Name | UnsetType = UNSET
    idempotency_key: OwnKey | None = None


class Extend(ExtendBody, tag_field="command", tag="extend", frozen=True, kw_only=True):
    reservation_id: UUID
    idempotency_key: OwnKey | None = None


class Purchase(ReasonBody, tag_field="command", tag="purchase", frozen=True, kw_only=True):
    reservation_id: UUID
    idempotency_key: OwnKey | None = None


class Return(LinesBody, tag_field="command", tag="return", frozen=True, kw_only=True):
    reservation_id: UUID
    idempotency_key: OwnKey | None = None


class Put(ItemBody, tag_field="command", tag="put", frozen=True, kw_only=True):
    """An item where there is an `sn`, else a fungible product."""

    sku: Name
    sn: Name | UnsetType = UNSET
    amount_in_stock: Amount | UnsetType = UNSET
    unit_price_cents: Amount | UnsetType = UNSET
    idempotency_key: OwnKey | None = None


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
        self, number: int, raw: msgspec.Raw, common: intents.Common, caller: Caller
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


def _put(_service: Service, intent: Put, common: intents.Common) -> Command:
    sku = identifier(intent.sku, "sku")
    if intent.sn is not UNSET:
        _refuse(intent, "amount_in_stock", "unit_price_cents")
        members = {field: getattr(intent, field) for field in ItemBody.__struct_fields__}
        return intents.put_item(ItemBody(**members), sku, identifier(intent.sn, "sn"), common)
    _refuse(intent, "notes", "price_cents", "sold")
    members = {field: getattr(intent, field) for field in FungibleBody.__struct_fields__}
    return intents.put_fungible(FungibleBody(**members), sku, common)


def _reserve(service: Service, intent: Reserve, common: intents.Common) -> Command:
    if intent.lines is not UNSET:
        _refuse(intent, "sku", "sn", "quantity")
        cart = {field: getattr(intent, field) for field in ReserveBody.__struct_fields__}
        return intents.make_cart(service, CartBody(lines=intent.lines, partial=intent.partial is True, **cart), common)
    _refuse(intent, "partial")
    if intent.sku is UNSET:
        raise InvalidError({"sku": "is missing"})
    sku = identifier(intent.sku, "sku")
    if intent.sn is not UNSET:
        _refuse(intent, "quantity")
        return intents.reserve_item(service, intent, sku, identifier(intent.sn, "sn"), common)
    if intent.quantity is UNSET:
        raise InvalidError({"quantity": "is missing"})
    return intents.reserve(service, intent, sku, intent.quantity, common)


def _release(_service: Service, intent: Release, common: intents.Common) -> Command:
    if intent.reservation_id is not UNSET:
        _refuse(intent, "sku", "sn")
        if intent.lines is UNSET:
            return intents.release(intent, intent.reservation_id, common)
        body = LinesBody(lines=intent.lines, reason=intent.reason, reference=intent.reference)
        return intents.release(body, intent.reservation_id, common)
    _refuse(intent, "lines")
    if intent.sku is UNSET or intent.sn is UNSET:
        raise InvalidError({"reservation_id": "is missing, or sku and sn are"})
    return intents.release_item(intent, identifier(intent.sku, "sku"), identifier(intent.sn, "sn"), common)


def _refuse(intent: Intent, *names: str) -> None:
    bad = {name: "does not belong here" for name in names if getattr(intent, name) is not UNSET}
    if bad:
        raise InvalidError(bad)


_BUILD: dict[type[Any], Callable[[Service, Any, intents.Common], Command]] = {
    Add: lambda _, i, common: intents.add(i, identifier(i.sku, "sku"), i.quantity, common),
    Remove: lambda _, i, common: intents.remove(i, identifier(i.sku, "sku"), i.quantity, common),
    Reserve: _reserve,
    Release: _release,
    Extend: lambda service, i, common: intents.extend(service, i, i.reservation_id, common),
    Purchase: lambda _, i, common: intents.purchase(i, i.reservation_id, common),
    Return: lambda _, i, common: intents.take_back(i, i.reservation_id, common),
    Put: _put,
}
