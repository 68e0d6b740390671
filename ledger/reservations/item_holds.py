"""The rules for holds on single items. Pure: state in, facts out."""

from ledger.catalogue import products
from ledger.catalogue.products import PRODUCTS
from ledger.facts import Fact
from ledger.items import items
from ledger.items.commands import ItemCommand
from ledger.items.errors import ItemSoldError
from ledger.items.items import ITEMS, Item
from ledger.reservations import carts, reservations
from ledger.reservations.commands import ReleaseItem, ReserveItem
from ledger.reservations.reservations import RESERVATIONS
from ledger.unit_of_work import UnitOfWork


def _item(work: UnitOfWork, command: ItemCommand) -> Item:
    product = products.require(work[PRODUCTS][command.sku], command.sku, "non-fungible")
    item = items.require(work[ITEMS][command.sku, command.sn], command.sku, command.sn)
    command.check(product.version + item.version)
    return item


def reserve_item(work: UnitOfWork, command: ReserveItem) -> list[Fact]:
    item = _item(work, command)
    existing = work[RESERVATIONS][command.reservation_id]
    if existing is not None:
        return carts.reserve_again(work, existing, command)
    items.require_free(item)
    return [carts.hold_item(work, command)]


def release_item(work: UnitOfWork, command: ReleaseItem) -> list[Fact]:
    item = _item(work, command)
    if item.sold:
        raise ItemSoldError(item.sku, item.sn)
    if item.reservation_id is None:
        return []
    reservation = work[RESERVATIONS][item.reservation_id]
    assert reservation is not None, "an item's hold is a reservation"
    line = reservation.lines[reservations.line_key(item.sku, item.sn)]
    return [carts.release_line(work, reservation, line, 1, "cancelled", command.by())]
