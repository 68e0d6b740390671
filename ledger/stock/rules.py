"""The rules for fungible stock. Pure: state in, facts out.

Checks go from the most basic to the most particular: does it exist, is it of this kind, does the caller's precondition
hold, is there enough.
"""

from msgspec import UNSET

from ledger.catalogue import products
from ledger.catalogue.commands import SkuCommand
from ledger.catalogue.products import PRODUCTS
from ledger.facts import Fact
from ledger.stock import levels
from ledger.stock.commands import AddStock, PutFungible, RemoveStock
from ledger.stock.levels import STOCK, Stock
from ledger.streams import product_stream, stock_stream
from ledger.unit_of_work import UnitOfWork


def put_fungible(work: UnitOfWork, command: PutFungible) -> list[Fact]:
    product, level = work[PRODUCTS][command.sku], work[STOCK][command.sku]
    if product is not None:
        products.require(product, command.sku, "fungible")
    command.check(None if product is None else product.version + level.version)
    changed = products.put(product, "fungible", command.changes, command.by())
    facts = [Fact(product_stream(command.sku), event) for event in changed]
    if command.amount_in_stock is not UNSET:
        moved = levels.set_level(level, command.amount_in_stock, command.by())
        facts += [Fact(stock_stream(command.sku), event) for event in moved]
    return facts


def add_stock(work: UnitOfWork, command: AddStock) -> list[Fact]:
    level = _fungible(work, command)
    return [Fact(stock_stream(command.sku), levels.add(level, command.quantity, command.by()))]


def remove_stock(work: UnitOfWork, command: RemoveStock) -> list[Fact]:
    level = _fungible(work, command)
    return [Fact(stock_stream(command.sku), levels.remove(level, command.quantity, command.by()))]


def _fungible(work: UnitOfWork, command: SkuCommand) -> Stock:
    product = products.require(work[PRODUCTS][command.sku], command.sku, "fungible")
    level = work[STOCK][command.sku]
    command.check(product.version + level.version)
    return level
