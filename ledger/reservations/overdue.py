"""Over means over: holds that a command meets and that are over by the clock are written down before it is decided.

So no rule ever sees one. Pure: state in, facts out.
"""

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from ledger.commands import Command
from ledger.items.commands import ItemCommand, PutItem
from ledger.items.items import ITEMS
from ledger.reservations import carts
from ledger.reservations.commands import (
    ChangeReservation,
    ExpireReservation,
    ExtendReservation,
    MakeReservation,
    PurchaseReservation,
    ReleaseItem,
    ReleaseReservation,
    ReservationCommand,
    ReserveItem,
    ReturnPurchase,
)
from ledger.reservations.reservations import RESERVATIONS
from ledger.unit_of_work import UnitOfWork


def expire_met(work: UnitOfWork, command: Command) -> None:
    """Record the expiry of every overdue reservation that the command names, or that holds an item it names."""
    met = _MET.get(type(command))
    if met is not None:
        expire_overdue(work, met(work, command))


def expire_overdue(work: UnitOfWork, ids: Iterable[UUID]) -> None:
    """Record the expiry of those of the reservations that are over by the clock."""
    for reservation_id in sorted(set(ids)):
        reservation = work[RESERVATIONS][reservation_id]
        if reservation is not None and reservation.is_overdue(work.now):
            work.record(carts.expire(work, reservation))


def _by_id(_work: UnitOfWork, command: ReservationCommand) -> list[UUID]:
    return [command.reservation_id]


def _holders(work: UnitOfWork, keys: Iterable[tuple[str, str]]) -> list[UUID]:
    """The reservations that hold items."""
    items = work[ITEMS]
    return [item.reservation_id for key in keys if (item := items[key]) is not None and item.reservation_id is not None]


def _of_item(work: UnitOfWork, command: ItemCommand) -> list[UUID]:
    return _holders(work, [(command.sku, command.sn)])


def _of_item_and_id(work: UnitOfWork, command: ReserveItem) -> list[UUID]:
    return [command.reservation_id, *_of_item(work, command)]


def _of_cart(work: UnitOfWork, command: MakeReservation) -> list[UUID]:
    """An id of our own making was not looked up, and is not there."""
    named = [] if command.fingerprint is None else [command.reservation_id]
    return named + _holders(work, [(line.sku, line.sn) for line in command.lines if line.sn is not None])


def _of_change(work: UnitOfWork, command: ChangeReservation) -> list[UUID]:
    items = [(line.sku, line.sn) for line in command.lines if line.sn is not None]
    return [command.reservation_id, *_holders(work, items)]


_MET: dict[type[Command], Callable[[UnitOfWork, Any], list[UUID]]] = {
    PutItem: _of_item,
    ReserveItem: _of_item_and_id,
    ReleaseItem: _of_item,
    MakeReservation: _of_cart,
    ReleaseReservation: _by_id,
    ExpireReservation: _by_id,
    ExtendReservation: _by_id,
    ChangeReservation: _of_change,
    PurchaseReservation: _by_id,
    ReturnPurchase: _by_id,
}
