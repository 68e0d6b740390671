"""What items bring."""

from ledger.catalogue.products import PRODUCTS
from ledger.items import items
from ledger.items.commands import ItemCommand, PutItem
from ledger.items.events import FACTS
from ledger.items.outcomes import ItemOutcome
from ledger.items.rules import put_item
from ledger.room import Room, Rule
from ledger.state import Keys
from ledger.unit_of_work import UnitOfWork


def needs(command: ItemCommand, needs: Keys) -> None:
    needs.add(PRODUCTS, command.sku)
    needs.add(items.ITEMS, (command.sku, command.sn))


def outcome(work: UnitOfWork, command: ItemCommand) -> ItemOutcome:
    product, item = work[PRODUCTS][command.sku], work[items.ITEMS][command.sku, command.sn]
    assert product is not None and item is not None, "they were put or required"
    return ItemOutcome(position=work.position, product=product, item=item)


ITEMS = Room(
    name="items",
    facts=FACTS,
    states=(items.ITEMS,),
    rules={PutItem: Rule(put_item, needs, outcome, ItemOutcome)},
)
