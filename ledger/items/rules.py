"""The rules for items. Pure: state in, facts out."""

from msgspec import UNSET

from ledger.catalogue import products
from ledger.catalogue.products import PRODUCTS
from ledger.facts import Fact
from ledger.items.commands import PutItem
from ledger.items.events import ItemAdded, ItemPurchased, ItemReturned, ItemRevised
from ledger.items.items import ITEMS, Item
from ledger.streams import item_stream, product_stream
from ledger.unit_of_work import UnitOfWork


def put_item(work: UnitOfWork, command: PutItem) -> list[Fact]:
    sku, sn = command.sku, command.sn
    product, item = work[PRODUCTS][sku], work[ITEMS][sku, sn]
    if product is not None:
        products.require(product, sku, "non-fungible")
    command.check(None if item is None or product is None else product.version + item.version)
    changed = products.put(product, "non-fungible", command.product, command.by())
    facts = [Fact(product_stream(sku), event) for event in changed]
    if item is None:
        facts.append(Fact(item_stream(sku, sn), ItemAdded(**products.given(command.item), **command.by())))
    elif revised := products.differing(item, command.item):
        facts.append(Fact(item_stream(sku, sn), ItemRevised(**revised, **command.by())))
    return facts + _sold(item, command)


def _sold(item: Item | None, command: PutItem) -> list[Fact]:
    """`sold: true` purchases the item, under the reservation that holds it if one does; `false` takes it back."""
    was_sold = item is not None and item.sold
    if command.sold is UNSET or command.sold == was_sold:
        return []
    stream = item_stream(command.sku, command.sn)
    if command.sold:
        held_by = item.reservation_id if item is not None else None
        return [Fact(stream, ItemPurchased(purchase_id=command.purchase_id, reservation_id=held_by, **command.by()))]
    sold_under = item.sold_under if item is not None else None
    return [Fact(stream, ItemReturned(reservation_id=sold_under, **command.by()))]
