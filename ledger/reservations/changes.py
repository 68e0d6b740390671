"""The rule of a cart that changes: more is held, less is given back, lines come and go, all or nothing. Pure."""

from collections.abc import Iterator
from datetime import timedelta

from ledger.facts import Fact
from ledger.items import items
from ledger.items.items import ITEMS
from ledger.reservations.carts import OPEN, extend_lines, hold_line, release_line, require, require_line
from ledger.reservations.commands import ChangeReservation, Line
from ledger.reservations.reservations import Reservation, line_key
from ledger.stock.errors import InsufficientStockError, Shortage
from ledger.stock.levels import STOCK
from ledger.unit_of_work import UnitOfWork


def change(work: UnitOfWork, command: ChangeReservation) -> list[Fact]:
    """The reservation then holds exactly the lines; what it holds already is available to it.

    Raises InsufficientStockError naming every short line, besides what `require` and `require_line` raise. More is
    reserved before less is given back, so that the reservation never is over on the way.
    """
    reservation = require(work, command, OPEN)
    for line in command.lines:
        require_line(work, line)
    if shortages := list(_shortages(work, reservation, command)):
        raise InsufficientStockError(shortages)
    expires_at, extended = reservation.expires_at, []
    if command.ttl_seconds is not None:
        expires_at = work.now + timedelta(seconds=command.ttl_seconds)
        extended = extend_lines(work, reservation, command.ttl_seconds, command.by())
    members = {
        "reservation_id": reservation.reservation_id,
        "expires_at": expires_at,
        "owner": reservation.owner,
    } | command.by()
    more = [hold_line(work, line, **members) for line in _more(reservation, command)]
    return extended + more + _given_back(work, reservation, command)


def _held(reservation: Reservation, line: Line) -> int:
    held = reservation.lines.get(line_key(line.sku, line.sn))
    return held.remaining if held else 0


def _more(reservation: Reservation, command: ChangeReservation) -> Iterator[Line]:
    for line in command.lines:
        if (grown := line.quantity - _held(reservation, line)) > 0:
            yield Line(line.sku, grown, line.sn)


def _given_back(work: UnitOfWork, reservation: Reservation, command: ChangeReservation) -> list[Fact]:
    kept = {line_key(line.sku, line.sn): line.quantity for line in command.lines}
    facts = []
    for held in reservation.held():
        gone = held.remaining - kept.get(line_key(held.sku, held.sn), 0)
        if gone > 0:
            facts.append(release_line(work, reservation, held, gone, "cancelled", command.by()))
    return facts


def _shortages(work: UnitOfWork, reservation: Reservation, command: ChangeReservation) -> Iterator[Shortage]:
    for line in command.lines:
        own = _held(reservation, line)
        short = None
        if line.sn is None:
            level = work[STOCK][line.sku]
            if line.quantity > level.available + own:
                short = Shortage(line.sku, line.quantity, level.available + own, level.reserved - own)
        elif not own:
            item = work[ITEMS][line.sku, line.sn]
            short = items.shortage(item) if item is not None else None
        if short is not None:
            yield short
