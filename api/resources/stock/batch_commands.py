"""Commands of a batch on fungible stock."""

from api.http.batch_members import OwnKey
from api.http.schemas import ReasonBody
from api.http.service import Common, Service
from api.resources.stock.command_builders import add, remove
from api.room import BatchCommand
from ledger.commands import Command
from ledger.identifiers import Name, Quantity, identifier


class Add(ReasonBody, tag_field="command", tag="add", frozen=True, kw_only=True):
    sku: Name
    quantity: Quantity
    idempotency_key: OwnKey | None = None


class Remove(Add, tag_field="command", tag="remove", frozen=True, kw_only=True):
    pass


def _add(_service: Service, intent: Add, common: Common) -> Command:
    return add(intent, identifier(intent.sku, "sku"), intent.quantity, common)


def _remove(_service: Service, intent: Remove, common: Common) -> Command:
    return remove(intent, identifier(intent.sku, "sku"), intent.quantity, common)


BATCH = (BatchCommand(Add, _add), BatchCommand(Remove, _remove))
