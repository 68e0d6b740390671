"""The command of a batch that puts a product or an item."""

from msgspec import UNSET, UnsetType

from api.http.batch_members import OwnKey, none_of, refuse_members
from api.http.service import Common, Service
from api.resources.items.command_builders import put_item
from api.resources.items.schemas import ItemBody
from api.resources.stock.command_builders import put_fungible
from api.resources.stock.schemas import FungibleBody
from api.room import BatchCommand
from ledger.commands import Command
from ledger.identifiers import Amount, Name, identifier


class Put(ItemBody, tag_field="command", tag="put", frozen=True, kw_only=True):
    """An item where there is an `sn`, else a fungible product."""

    sku: Name
    sn: Name | UnsetType = UNSET
    amount_in_stock: Amount | UnsetType = UNSET
    unit_price_cents: Amount | UnsetType = UNSET
    idempotency_key: OwnKey | None = None


def build_put(_service: Service, intent: Put, common: Common) -> Command:
    sku = identifier(intent.sku, "sku")
    if intent.sn is not UNSET:
        refuse_members(intent, "amount_in_stock", "unit_price_cents")
        members = {field: getattr(intent, field) for field in ItemBody.__struct_fields__}
        return put_item(ItemBody(**members), sku, identifier(intent.sn, "sn"), common)
    refuse_members(intent, "notes", "price_cents", "sold")
    members = {field: getattr(intent, field) for field in FungibleBody.__struct_fields__}
    return put_fungible(FungibleBody(**members), sku, common)


BATCH = (
    BatchCommand(
        Put,
        build_put,
        {
            "anyOf": [
                {"required": ["sn"], **none_of("amount_in_stock", "unit_price_cents")},
                none_of("sn", "notes", "price_cents", "sold"),
            ]
        },
    ),
)
