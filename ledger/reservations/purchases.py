"""The rule of buying what is held, all of it or a part. Pure."""

from typing import Any

from ledger.facts import Fact
from ledger.items.events import ItemPurchased
from ledger.reservations.carts import held_lines, require
from ledger.reservations.commands import Line, PurchaseReservation
from ledger.reservations.reservations import Reservation
from ledger.stock.events import StockPurchased
from ledger.stock.levels import STOCK
from ledger.streams import item_stream, stock_stream
from ledger.unit_of_work import UnitOfWork


def purchase(work: UnitOfWork, command: PurchaseReservation) -> list[Fact]:
    """What is bought leaves the inventory; the rest stays held.

    Raises NotHeldError where a line asks for more than is held, besides what `require` raises.
    """
    reservation = require(work, command, must_be_open=True)
    wanted = _all_held(reservation) if command.lines is None else command.lines
    members: dict[str, Any] = {"reservation_id": command.reservation_id, "purchase_id": command.purchase_id}
    return [_bought(work, line, members | command.by()) for line, _ in held_lines(reservation, wanted)]


def _all_held(reservation: Reservation) -> list[Line]:
    return [Line(line.sku, line.remaining, line.sn) for line in reservation.held()]


def _bought(work: UnitOfWork, line: Line, members: dict[str, Any]) -> Fact:
    if line.sn is not None:
        return Fact(item_stream(line.sku, line.sn), ItemPurchased(**members))
    level, gone = work[STOCK][line.sku], line.quantity
    on_hand, reserved = level.on_hand - gone, level.reserved - gone
    event = StockPurchased(quantity=gone, on_hand=on_hand, reserved=reserved, **members)
    return Fact(stock_stream(line.sku), event)
