"""What items bring."""

from ledger.catalogue.products import PRODUCTS
from ledger.items import items
from ledger.items.commands import ItemCommand, PutItem
from ledger.items.events import FACTS
from ledger.items.rules import put_item
from ledger.outcome import Outcome
from ledger.room import Room, Rule
from ledger.state import Keys
from ledger.unit_of_work import UnitOfWork


def needs(command: ItemCommand, needs: Keys) -> None:
    needs.add(PRODUCTS, command.sku)
    needs.add(items.ITEMS, (command.sku, command.sn))


def outcome(work: UnitOfWork, command: ItemCommand) -> Outcome:
    item = work[items.ITEMS][command.sku, command.sn]
    return Outcome(work.position, product=work[PRODUCTS][command.sku], item=item)


ITEMS = Room(
    name="items",
    facts=FACTS,
    states=(items.ITEMS,),
    rules={PutItem: Rule(put_item, needs, outcome)},
)
