"""What reservations bring: carts, and holds on single items. Their facts are in the streams of what they hold."""

from collections.abc import Iterable, Sequence

from msgspec import structs

from ledger.catalogue.products import PRODUCTS
from ledger.facts import Entry
from ledger.items import room as items_room
from ledger.items.items import ITEMS
from ledger.items.outcomes import ItemOutcome
from ledger.reservations import carts, changes, purchases, reservations
from ledger.reservations.commands import (
    ChangeReservation,
    ExpireReservation,
    ExtendReservation,
    Line,
    MakeReservation,
    PurchaseReservation,
    ReleaseItem,
    ReleaseReservation,
    ReservationCommand,
    ReserveItem,
    ReturnPurchase,
)
from ledger.reservations.item_holds import release_item, reserve_item
from ledger.reservations.outcomes import MadeOutcome, ReservationOutcome
from ledger.reservations.overdue import expire_met
from ledger.reservations.shortfall import Shortfall
from ledger.room import Room, Rule
from ledger.state import Keys
from ledger.stock.levels import STOCK
from ledger.unit_of_work import UnitOfWork


def _needs_of_lines(lines: Iterable[Line], needs: Keys) -> None:
    for line in lines:
        needs.add(PRODUCTS, line.sku)
        needs.add(STOCK, line.sku)
        if line.sn is not None:
            needs.add(ITEMS, (line.sku, line.sn))


def _needs_of_cart(command: MakeReservation, needs: Keys) -> None:
    """An id of our own making is new: there is nothing to look up."""
    _needs_of_lines(command.lines, needs)
    if command.fingerprint is not None:
        needs.add(reservations.RESERVATIONS, command.reservation_id)


def _needs_of_item(command: ReserveItem, needs: Keys) -> None:
    items_room.needs(command, needs)
    needs.add(reservations.RESERVATIONS, command.reservation_id)


def _needs(command: ReservationCommand, needs: Keys) -> None:
    needs.add(reservations.RESERVATIONS, command.reservation_id)


def _needs_of_change(command: ChangeReservation, needs: Keys) -> None:
    _needs(command, needs)
    _needs_of_lines(command.lines, needs)


def _outcome_of_cart(work: UnitOfWork, command: MakeReservation) -> MadeOutcome:
    first = command.lines[0].sku
    product, made = work[PRODUCTS][first], work[reservations.RESERVATIONS][command.reservation_id]
    assert product is not None and made is not None, "it has just been made of what was required"
    return MadeOutcome(
        position=work.position,
        product=product,
        stock=work[STOCK][first],
        reservation=made,
        missing=carts.missing(work, command) if command.partial else (),
    )


def _outcome_needs_of_cart(command: MakeReservation, needs: Keys) -> None:
    if command.partial:
        _needs_of_cart(command, needs)
    needs.add(PRODUCTS, command.lines[0].sku)
    needs.add(STOCK, command.lines[0].sku)
    needs.add(reservations.RESERVATIONS, command.reservation_id)


def _cart_as_first(command: MakeReservation, entries: Sequence[Entry]) -> MakeReservation:
    """Under the id that was made for it then."""
    for entry in entries:
        if isinstance(entry.event, reservations.Reserved):
            return structs.replace(command, reservation_id=entry.event.reservation_id)
    return command


def _outcome(work: UnitOfWork, command: ReservationCommand) -> ReservationOutcome:
    reservation = work[reservations.RESERVATIONS][command.reservation_id]
    return ReservationOutcome(position=work.position, reservation=reservation)


RESERVATIONS = Room(
    name="reservations",
    states=(reservations.RESERVATIONS,),
    rules={
        MakeReservation: Rule(
            carts.make,
            _needs_of_cart,
            _outcome_of_cart,
            MadeOutcome,
            as_first=_cart_as_first,
            outcome_needs=_outcome_needs_of_cart,
        ),
        ReserveItem: Rule(
            reserve_item, _needs_of_item, items_room.outcome, ItemOutcome, outcome_needs=items_room.needs
        ),
        ReleaseItem: Rule(
            release_item, items_room.needs, items_room.outcome, ItemOutcome, outcome_needs=items_room.needs
        ),
        ReleaseReservation: Rule(carts.release, _needs, _outcome, ReservationOutcome),
        ExpireReservation: Rule(carts.write_down_expiry, _needs, _outcome, ReservationOutcome),
        ExtendReservation: Rule(carts.extend, _needs, _outcome, ReservationOutcome),
        ChangeReservation: Rule(changes.change, _needs_of_change, _outcome, ReservationOutcome, outcome_needs=_needs),
        PurchaseReservation: Rule(purchases.purchase, _needs, _outcome, ReservationOutcome),
        ReturnPurchase: Rule(carts.take_back, _needs, _outcome, ReservationOutcome),
    },
    before=expire_met,
    recourse=Shortfall,
)
