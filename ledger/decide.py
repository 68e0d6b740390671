"""Which rule decides which command, and the rules for fungible stock and items. Pure: state in, facts out.

Checks go from the most basic to the most particular: does it exist, is it of this kind, does the caller's precondition
hold, is there enough. tests/ledger/test_rules.py pins that order.
"""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import UNSET, Struct

from ledger import carts, items, products, reservations, stock
from ledger.books import Books
from ledger.commands import (
    AddStock,
    Command,
    ExpireReservation,
    ExtendReservation,
    ItemCommand,
    MakeReservation,
    PurchaseReservation,
    PutFungible,
    PutItem,
    ReleaseItem,
    ReleaseReservation,
    RemoveStock,
    ReserveItem,
    ReturnPurchase,
    SkuCommand,
)
from ledger.errors import ItemSoldError, Shortage
from ledger.events import Fact, ItemAdded, ItemPurchased, ItemReturned, ItemRevised
from ledger.items import Item
from ledger.products import Product
from ledger.reservations import Reservation
from ledger.stock import Stock
from ledger.streams import item_stream, product_stream, stock_stream


class Outcome(Struct, frozen=True, omit_defaults=True):
    """What a command left behind, at log position `position`: the parts that its caller asked about.

    `replayed` when it is the kept outcome of an earlier request with the same idempotency key.
    """

    position: int
    product: Product | None = None
    stock: Stock | None = None
    item: Item | None = None
    reservation: Reservation | None = None
    missing: tuple[Shortage, ...] = ()
    replayed: bool = False


def decide(books: Books, command: Command) -> Outcome:
    """Record in `books` what the command makes happen; raises a LedgerError and records nothing if it is refused.

    Holds that the command meets and that are over by the clock are written down as expired first, refused or not: no
    rule below ever sees one.
    """
    for reservation in _met(books, command):
        if reservation.is_overdue(books.now):
            books.record(carts.expire(books, reservation))
    books.record(RULES[type(command)](books, command))
    return _outcome(books, command)


def _met(books: Books, command: Command) -> Iterable[Reservation]:
    ids = set(command.reservations())
    for key in command.items():
        item = books.items[key]
        if item is not None and item.reservation_id is not None:
            ids.add(item.reservation_id)
    if not ids:
        return ()
    return [reservation for i in sorted(ids) if (reservation := books.reservations[i]) is not None]


def _outcome(books: Books, command: Command) -> Outcome:
    match command:
        case ItemCommand():
            item = books.items[command.sku, command.sn]
            return Outcome(books.position, product=books.products[command.sku], item=item)
        case SkuCommand():
            return Outcome(books.position, product=books.products[command.sku], stock=books.stock[command.sku])
        case MakeReservation():
            made = books.reservations[command.reservation_id]
            first = command.lines[0].sku
            missing = carts.missing(books, command) if command.partial else ()
            return Outcome(
                books.position,
                product=books.products[first],
                stock=books.stock[first],
                reservation=made,
                missing=missing,
            )
    (reservation_id,) = command.reservations()
    return Outcome(books.position, reservation=books.reservations[reservation_id])


def put_fungible(books: Books, command: PutFungible) -> list[Fact]:
    product, level = books.products[command.sku], books.stock[command.sku]
    if product is not None:
        products.require(product, command.sku, "fungible")
    command.check(None if product is None else product.version + level.version)
    changed = products.put(product, command.sku, "fungible", command.changes, command.by())
    facts = [Fact(product_stream(command.sku), event) for event in changed]
    if command.amount_in_stock is not UNSET:
        moved = stock.set_level(level, command.amount_in_stock, command.by())
        facts += [Fact(stock_stream(command.sku), event) for event in moved]
    return facts


def add_stock(books: Books, command: AddStock) -> list[Fact]:
    level = _fungible(books, command)
    return [Fact(stock_stream(command.sku), stock.add(level, command.quantity, command.by()))]


def remove_stock(books: Books, command: RemoveStock) -> list[Fact]:
    level = _fungible(books, command)
    return [Fact(stock_stream(command.sku), stock.remove(level, command.quantity, command.by()))]


def _fungible(books: Books, command: SkuCommand) -> Stock:
    product = products.require(books.products[command.sku], command.sku, "fungible")
    level = books.stock[command.sku]
    command.check(product.version + level.version)
    return level


def put_item(books: Books, command: PutItem) -> list[Fact]:
    sku, sn = command.sku, command.sn
    product, item = books.products[sku], books.items[sku, sn]
    if product is not None:
        products.require(product, sku, "non-fungible")
    command.check(None if item is None or product is None else product.version + item.version)
    changed = products.put(product, sku, "non-fungible", command.product, command.by())
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


def _item(books: Books, command: ItemCommand) -> Item:
    product = products.require(books.products[command.sku], command.sku, "non-fungible")
    item = items.require(books.items[command.sku, command.sn], command.sku, command.sn)
    command.check(product.version + item.version)
    return item


def reserve_item(books: Books, command: ReserveItem) -> list[Fact]:
    item = _item(books, command)
    existing = books.reservations[command.reservation_id]
    if existing is not None:
        return carts.reserve_again(books, existing, command)
    items.require_free(item)
    return [carts.hold_item(books, command, command.sku, command.sn)]


def release_item(books: Books, command: ReleaseItem) -> list[Fact]:
    item = _item(books, command)
    if item.sold:
        raise ItemSoldError(item.sku, item.sn)
    if item.reservation_id is None:
        return []
    reservation = books.reservations[item.reservation_id]
    assert reservation is not None, "an item's hold is a reservation"
    line = reservation.lines[reservations.line_key(item.sku, item.sn)]
    return [carts.release_line(books, reservation, line, 1, "cancelled", command.by())]


RULES: dict[type[Command], Callable[[Books, Any], list[Fact]]] = {
    PutFungible: put_fungible,
    AddStock: add_stock,
    RemoveStock: remove_stock,
    PutItem: put_item,
    ReserveItem: reserve_item,
    ReleaseItem: release_item,
    MakeReservation: carts.make,
    ReleaseReservation: carts.release,
    ExpireReservation: carts.write_down_expiry,
    ExtendReservation: carts.extend,
    PurchaseReservation: carts.purchase,
    ReturnPurchase: carts.take_back,
}
