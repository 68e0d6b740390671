"""The rules of carts: reserving several lines at once, and the ways in which a reservation ends. Pure.

Checks go from the most basic to the most particular: does every line exist and is it of its kind, is the id free, is
the reservation still open, is there enough.
"""

from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Any, NoReturn, get_args

from ledger.catalogue import products
from ledger.catalogue.products import PRODUCTS
from ledger.facts import Cause, Fact
from ledger.items import items
from ledger.items.events import ItemReleased, ItemReservationExtended, ItemReserved, ItemReturned
from ledger.items.items import ITEMS
from ledger.reservations.commands import (
    ExpireReservation,
    ExtendReservation,
    Line,
    MakeReservation,
    ReleaseReservation,
    ReservationCommand,
    ReserveItem,
    ReturnPurchase,
)
from ledger.reservations.errors import (
    NotHeldError,
    ReservationEndedError,
    ReservationIdTakenError,
    UnknownReservationError,
)
from ledger.reservations.reservations import RESERVATIONS, HeldLine, Reservation, State, line_key, summed
from ledger.stock import levels
from ledger.stock.errors import InsufficientStockError, Shortage
from ledger.stock.events import StockReleased, StockReservationExtended, StockReserved, StockReturned
from ledger.stock.levels import STOCK
from ledger.streams import item_stream, stock_stream
from ledger.unit_of_work import UnitOfWork

# Who writes down that a reservation is over.
EXPIRY_ACTOR = "expiry"

OPEN: tuple[State, ...] = ("open",)
ANY_STATE: tuple[State, ...] = get_args(State)


def make(work: UnitOfWork, command: MakeReservation) -> list[Fact]:
    """All lines or none; with `partial`, what there is of each, but something."""
    for line in command.lines:
        require_line(work, line)
    _check_precondition(work, command)
    existing = work[RESERVATIONS].get(command.reservation_id)
    if existing is not None:
        if command.fingerprint is not None and existing.fingerprint == command.fingerprint:
            if existing.state in ("released", "expired"):  # whoever repeats it must not think that it still holds
                raise ReservationEndedError(existing.reservation_id, existing.state)
            return []
        raise ReservationIdTakenError(command.reservation_id)
    shortages = [short for line in command.lines if (short := _shortage(work, line))]
    wanted = [obtainable for line in command.lines if (obtainable := _obtainable(work, line))]
    if shortages and not (command.partial and wanted):
        raise InsufficientStockError(shortages)
    return [_hold(work, command, line) for line in wanted]


def missing(work: UnitOfWork, command: MakeReservation) -> tuple[Shortage, ...]:
    """What a partial reservation that has just been made could not get."""
    made = work[RESERVATIONS][command.reservation_id]
    assert made is not None, "it has just been made"
    return tuple(
        short
        for line in command.lines
        if (short := _missing(work, line, made.lines.get(line_key(line.sku, line.sn)))) is not None
    )


def expire(work: UnitOfWork, reservation: Reservation) -> list[Fact]:
    """Write down that a reservation is over: all its lines together, in one form whoever does it."""
    expiry = {"actor": EXPIRY_ACTOR, "request_id": f"expire:{reservation.reservation_id}"}
    held = reservation.held()
    return [release_line(work, reservation, line, line.remaining, "expired", expiry) for line in held]


def write_down_expiry(_work: UnitOfWork, _command: ExpireReservation) -> list[Fact]:
    """Nothing is left to do: `decide` has expired the reservation if it was over."""
    return []


def release(work: UnitOfWork, command: ReleaseReservation) -> list[Fact]:
    """Releasing what is released or expired already changes nothing; what was purchased cannot be released."""
    reservation = require(work, command, ANY_STATE if command.lines is None else OPEN)
    if command.lines is None:
        if reservation.state == "purchased":
            raise ReservationEndedError(reservation.reservation_id, reservation.state)
        wanted = [Line(line.sku, line.remaining, line.sn) for line in reservation.held()]
    else:
        wanted = list(summed(command.lines))
    return [
        release_line(work, reservation, held, line.quantity, "cancelled", command.by())
        for line, held in held_lines(reservation, wanted)
    ]


def extend(work: UnitOfWork, command: ExtendReservation) -> list[Fact]:
    reservation = require(work, command, OPEN)
    return extend_lines(work, reservation, command.ttl_seconds, command.by())


def take_back(work: UnitOfWork, command: ReturnPurchase) -> list[Fact]:
    """Purchased goods come back, at most as many as were purchased and have not come back yet."""
    reservation = require(work, command)
    facts = []
    for line in summed(command.lines):
        held = reservation.lines.get(line_key(line.sku, line.sn))
        purchased = held.purchased - held.returned if held else 0
        if line.quantity > purchased:
            refuse_line(reservation, line, purchased)
        facts.append(_take_back_line(work, command, line))
    return facts


def held_lines(reservation: Reservation, wanted: Iterable[Line]) -> list[tuple[Line, HeldLine]]:
    """Each line with what is held of it; raises NotHeldError where that is less."""
    found = []
    for line in wanted:
        held = reservation.lines.get(line_key(line.sku, line.sn))
        if held is None or line.quantity > held.remaining:
            refuse_line(reservation, line, held.remaining if held else 0)
        found.append((line, held))
    return found


def reserve_again(work: UnitOfWork, existing: Reservation, command: ReserveItem) -> list[Fact]:
    """A reservation of just this item is extended; any other with that id is in the way."""
    if existing.state != "open":
        raise ReservationEndedError(existing.reservation_id, existing.state)
    item = work[ITEMS][command.sku, command.sn]
    if item is None or item.reservation_id != existing.reservation_id:
        raise ReservationIdTakenError(existing.reservation_id)
    return extend_lines(work, existing, command.ttl_seconds, command.by())


def hold_item(work: UnitOfWork, command: ReserveItem) -> Fact:
    return hold_line(
        work,
        Line(command.sku, 1, command.sn),
        reservation_id=command.reservation_id,
        expires_at=work.now + timedelta(seconds=command.ttl_seconds),
        owner=command.owner,
        **command.by(),
    )


def release_line(
    work: UnitOfWork, reservation: Reservation, line: HeldLine, quantity: int, cause: Cause, by: dict[str, Any]
) -> Fact:
    members = {"reservation_id": reservation.reservation_id, "cause": cause} | by
    if line.sn is not None:
        return Fact(item_stream(line.sku, line.sn), ItemReleased(**members))
    level = work[STOCK][line.sku]
    event = StockReleased(quantity=quantity, on_hand=level.on_hand, reserved=level.reserved - quantity, **members)
    return Fact(stock_stream(line.sku), event)


def _check_precondition(work: UnitOfWork, command: MakeReservation) -> None:
    """Only the single calls on one product carry one; it is about that product."""
    if command.precondition is not None:
        sku = command.lines[0].sku
        product = work[PRODUCTS][sku]
        assert product is not None, "the line was required"
        command.precondition.check(product.version + work[STOCK][sku].version)


def require(work: UnitOfWork, command: ReservationCommand, states: Collection[State] = ANY_STATE) -> Reservation:
    """Raises UnknownReservationError, ReservationEndedError if it is in another state, then PreconditionFailedError."""
    reservation = work[RESERVATIONS][command.reservation_id]
    if reservation is None:
        raise UnknownReservationError(command.reservation_id)
    if reservation.state not in states:
        raise ReservationEndedError(reservation.reservation_id, reservation.state)
    if command.precondition is not None:  # the version is worked out
        command.check(reservation.version)
    return reservation


def require_line(work: UnitOfWork, line: Line) -> None:
    products.require(work[PRODUCTS][line.sku], line.sku, "fungible" if line.sn is None else "non-fungible")
    if line.sn is not None:
        items.require(work[ITEMS][line.sku, line.sn], line.sku, line.sn)


def _shortage(work: UnitOfWork, line: Line) -> Shortage | None:
    if line.sn is None:
        level = work[STOCK][line.sku]
        return levels.shortage(level, line.quantity) if line.quantity > level.available else None
    item = work[ITEMS][line.sku, line.sn]
    return items.shortage(item) if item is not None else None


def _obtainable(work: UnitOfWork, line: Line) -> Line | None:
    """The line cut to what there is; None if there is nothing."""
    if line.sn is not None:
        return None if _shortage(work, line) else line
    quantity = min(line.quantity, work[STOCK][line.sku].available)
    return Line(line.sku, quantity) if quantity else None


def _missing(work: UnitOfWork, line: Line, got: HeldLine | None) -> Shortage | None:
    quantity = got.quantity if got else 0
    if quantity >= line.quantity:
        return None
    if line.sn is not None:
        return _shortage(work, line)
    return Shortage(line.sku, line.quantity, quantity, work[STOCK][line.sku].reserved - (got.remaining if got else 0))


def _hold(work: UnitOfWork, command: MakeReservation, line: Line) -> Fact:
    return hold_line(
        work,
        line,
        reservation_id=command.reservation_id,
        expires_at=work.now + timedelta(seconds=command.ttl_seconds),
        owner=command.owner,
        fingerprint=command.fingerprint,
        **command.by(),
    )


def hold_line(work: UnitOfWork, line: Line, **members: Any) -> Fact:
    """`members` are those that the facts of all lines of a reservation have in common."""
    if line.sn is not None:
        return Fact(item_stream(line.sku, line.sn), ItemReserved(**members))
    level = work[STOCK][line.sku]
    reserved = level.reserved + line.quantity
    event = StockReserved(quantity=line.quantity, on_hand=level.on_hand, reserved=reserved, **members)
    return Fact(stock_stream(line.sku), event)


def extend_lines(work: UnitOfWork, reservation: Reservation, ttl_seconds: int, by: dict[str, Any]) -> list[Fact]:
    """From now, for every line that is still held."""
    expires_at = work.now + timedelta(seconds=ttl_seconds)
    members: dict[str, Any] = {"reservation_id": reservation.reservation_id, "expires_at": expires_at} | by
    facts = []
    for line in reservation.held():
        if line.sn is not None:
            facts.append(Fact(item_stream(line.sku, line.sn), ItemReservationExtended(**members)))
        else:
            level = work[STOCK][line.sku]
            event = StockReservationExtended(
                quantity=line.remaining, on_hand=level.on_hand, reserved=level.reserved, **members
            )
            facts.append(Fact(stock_stream(line.sku), event))
    return facts


def _take_back_line(work: UnitOfWork, command: ReturnPurchase, line: Line) -> Fact:
    if line.sn is not None:
        return Fact(item_stream(line.sku, line.sn), ItemReturned(reservation_id=command.reservation_id, **command.by()))
    level = work[STOCK][line.sku]
    event = StockReturned(
        quantity=line.quantity,
        on_hand=levels.put_back(level, line.quantity),
        reserved=level.reserved,
        reservation_id=command.reservation_id,
        **command.by(),
    )
    return Fact(stock_stream(line.sku), event)


def refuse_line(reservation: Reservation, line: Line, available: int) -> NoReturn:
    raise NotHeldError(reservation.reservation_id, line.sku, line.sn, line.quantity, available)
