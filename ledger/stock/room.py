"""What fungible stock brings."""

from collections.abc import Sequence

from msgspec import structs

from ledger.catalogue.commands import SkuCommand
from ledger.catalogue.events import ProductRegistered
from ledger.catalogue.products import PRODUCTS
from ledger.facts import Entry
from ledger.room import Room, Rule
from ledger.state import Keys
from ledger.stock import levels
from ledger.stock.commands import AddStock, PutFungible, RemoveStock
from ledger.stock.events import FACTS
from ledger.stock.outcomes import StockOutcome
from ledger.stock.rules import add_stock, put_fungible, remove_stock
from ledger.streams import parse_stream
from ledger.unit_of_work import UnitOfWork


def needs(command: SkuCommand, needs: Keys) -> None:
    needs.add(PRODUCTS, command.sku)
    needs.add(levels.STOCK, command.sku)


def outcome(work: UnitOfWork, command: SkuCommand) -> StockOutcome:
    product = work[PRODUCTS][command.sku]
    assert product is not None, "it was put or required"
    return StockOutcome(position=work.position, product=product, stock=work[levels.STOCK][command.sku])


def _as_first(command: PutFungible, entries: Sequence[Entry]) -> PutFungible:
    """Whose SKU was generated: the one that was registered."""
    for entry in entries:
        if isinstance(entry.event, ProductRegistered):
            return structs.replace(command, sku=parse_stream(entry.stream)[1])
    return command


STOCK = Room(
    name="stock",
    facts=FACTS,
    states=(levels.STOCK,),
    rules={
        PutFungible: Rule(put_fungible, needs, outcome, StockOutcome, as_first=_as_first),
        AddStock: Rule(add_stock, needs, outcome, StockOutcome),
        RemoveStock: Rule(remove_stock, needs, outcome, StockOutcome),
    },
)
