"""What fungible stock brings."""

from ledger.catalogue.commands import SkuCommand
from ledger.catalogue.products import PRODUCTS
from ledger.outcome import Outcome
from ledger.room import Room, Rule
from ledger.state import Keys
from ledger.stock import levels
from ledger.stock.commands import AddStock, PutFungible, RemoveStock
from ledger.stock.events import FACTS
from ledger.stock.rules import add_stock, put_fungible, remove_stock
from ledger.unit_of_work import UnitOfWork


def needs(command: SkuCommand, needs: Keys) -> None:
    needs.add(PRODUCTS, command.sku)
    needs.add(levels.STOCK, command.sku)


def outcome(work: UnitOfWork, command: SkuCommand) -> Outcome:
    return Outcome(work.position, product=work[PRODUCTS][command.sku], stock=work[levels.STOCK][command.sku])


STOCK = Room(
    name="stock",
    facts=FACTS,
    states=(levels.STOCK,),
    rules={
        PutFungible: Rule(put_fungible, needs, outcome),
        AddStock: Rule(add_stock, needs, outcome),
        RemoveStock: Rule(remove_stock, needs, outcome),
    },
)
