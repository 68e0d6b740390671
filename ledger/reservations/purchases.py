"""The rule of buying what is held, all of it or a part, or what was held until the time was over. Pure."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from ledger.facts import Fact
from ledger.items import items
from ledger.items.events import ItemPurchased
from ledger.items.items import ITEMS
from ledger.reservations.carts import OPEN, hold_line, refuse_line, require
from ledger.reservations.commands import Line, PurchaseReservation
from ledger.reservations.reservations import Reservation, line_key
from ledger.stock import levels
from ledger.stock.errors import InsufficientStockError, Shortage
from ledger.stock.events import StockPurchased
from ledger.stock.levels import STOCK
from ledger.streams import item_stream, stock_stream
from ledger.unit_of_work import UnitOfWork


def purchase(work: UnitOfWork, command: PurchaseReservation) -> list[Fact]:
    """What is bought leaves the inventory; the rest stays held.

    Raises NotHeldError where a line asks for more than is held, and InsufficientStockError naming every line of an
    expired reservation that is not all there any more, besides what `require` raises.
    """
    reservation = require(work, command, OPEN if command.rehold_seconds is None else (*OPEN, "expired"))
    again: dict[str, int] = {}
    held_again: list[Fact] = []
    if reservation.state == "expired":
        again = {line_key(line.sku, line.sn): line.expired for line in reservation.expired()}
        held_again = _held_again(work, reservation, command)
    members: dict[str, Any] = {"reservation_id": command.reservation_id, "purchase_id": command.purchase_id}
    bought = [
        _bought(work, line, again.get(line_key(line.sku, line.sn), 0), members | command.by())
        for line in _wanted(reservation, command, again)
    ]
    return held_again + bought


def _wanted(reservation: Reservation, command: PurchaseReservation, again: dict[str, int]) -> list[Line]:
    """The lines to buy of what is held, or will be once it is held `again`: units by `line_key`."""
    held = {key: line.remaining + again.get(key, 0) for key, line in reservation.lines.items()}
    if command.lines is None:
        return [Line(line.sku, held[key], line.sn) for key, line in reservation.lines.items() if held[key]]
    for line in command.lines:
        if line.quantity > (there := held.get(line_key(line.sku, line.sn), 0)):
            refuse_line(reservation, line, there)
    return list(command.lines)


def _held_again(work: UnitOfWork, reservation: Reservation, command: PurchaseReservation) -> list[Fact]:
    """All that it held when its time was over, for the same owner and under the same reference."""
    lines = [Line(line.sku, line.expired, line.sn) for line in reservation.expired()]
    if shortages := list(_shortages(work, lines)):
        raise InsufficientStockError(shortages)
    members = command.by() | {
        "reservation_id": reservation.reservation_id,
        "expires_at": work.now + timedelta(seconds=command.rehold_seconds or 0),
        "owner": reservation.owner,
        "reference": reservation.reference,
        "again": True,
    }
    return [hold_line(work, line, **members) for line in lines]


def _shortages(work: UnitOfWork, lines: list[Line]) -> Iterator[Shortage]:
    for line in lines:
        if line.sn is None:
            level = work[STOCK][line.sku]
            if line.quantity > level.available:
                yield levels.shortage(level, line.quantity)
        else:
            item = work[ITEMS][line.sku, line.sn]
            if item is not None and (short := items.shortage(item)):
                yield short


def _bought(work: UnitOfWork, line: Line, again: int, members: dict[str, Any]) -> Fact:
    """`again` units of it are held anew by the facts before."""
    if line.sn is not None:
        return Fact(item_stream(line.sku, line.sn), ItemPurchased(**members))
    level, gone = work[STOCK][line.sku], line.quantity
    on_hand, reserved = level.on_hand - gone, level.reserved + again - gone
    event = StockPurchased(quantity=gone, on_hand=on_hand, reserved=reserved, **members)
    return Fact(stock_stream(line.sku), event)
