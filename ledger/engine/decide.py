"""Which rule decides a command, and what comes before it. Pure: state in, facts out."""

from collections.abc import Callable, Iterable
from typing import Any

from ledger.catalogue.commands import SkuCommand
from ledger.commands import Command
from ledger.facts import Fact
from ledger.items.commands import ItemCommand, PutItem
from ledger.items.rules import put_item
from ledger.outcome import Outcome
from ledger.reservations import carts
from ledger.reservations.commands import (
    ExpireReservation,
    ExtendReservation,
    MakeReservation,
    PurchaseReservation,
    ReleaseItem,
    ReleaseReservation,
    ReserveItem,
    ReturnPurchase,
)
from ledger.reservations.item_holds import release_item, reserve_item
from ledger.reservations.reservations import Reservation
from ledger.stock.commands import AddStock, PutFungible, RemoveStock
from ledger.stock.rules import add_stock, put_fungible, remove_stock
from ledger.unit_of_work import UnitOfWork


def decide(work: UnitOfWork, command: Command) -> Outcome:
    """Record in `books` what the command makes happen; raises a LedgerError and records nothing if it is refused.

    Holds that the command meets and that are over by the clock are written down as expired first, refused or not: no
    rule below ever sees one.
    """
    for reservation in _met(work, command):
        if reservation.is_overdue(work.now):
            work.record(carts.expire(work, reservation))
    work.record(RULES[type(command)](work, command))
    return _outcome(work, command)


def _met(work: UnitOfWork, command: Command) -> Iterable[Reservation]:
    ids = set(command.reservations())
    for key in command.items():
        item = work.items[key]
        if item is not None and item.reservation_id is not None:
            ids.add(item.reservation_id)
    if not ids:
        return ()
    return [reservation for i in sorted(ids) if (reservation := work.reservations[i]) is not None]


def _outcome(work: UnitOfWork, command: Command) -> Outcome:
    match command:
        case ItemCommand():
            item = work.items[command.sku, command.sn]
            return Outcome(work.position, product=work.products[command.sku], item=item)
        case SkuCommand():
            return Outcome(work.position, product=work.products[command.sku], stock=work.stock[command.sku])
        case MakeReservation():
            made = work.reservations[command.reservation_id]
            first = command.lines[0].sku
            missing = carts.missing(work, command) if command.partial else ()
            return Outcome(
                work.position,
                product=work.products[first],
                stock=work.stock[first],
                reservation=made,
                missing=missing,
            )
    (reservation_id,) = command.reservations()
    return Outcome(work.position, reservation=work.reservations[reservation_id])


RULES: dict[type[Command], Callable[[UnitOfWork, Any], list[Fact]]] = {
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
