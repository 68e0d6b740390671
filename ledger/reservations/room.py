"""What reservations bring: carts, and holds on single items. Their facts are in the streams of what they hold."""

from ledger.catalogue.products import PRODUCTS
from ledger.items import room as items_room
from ledger.items.items import ITEMS
from ledger.outcome import Outcome
from ledger.reservations import carts, reservations
from ledger.reservations.commands import (
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
from ledger.reservations.item_holds import release_item, reserve_item
from ledger.reservations.overdue import expire_met
from ledger.reservations.shortfall import Shortfall
from ledger.room import Room, Rule
from ledger.state import Keys
from ledger.stock.levels import STOCK
from ledger.unit_of_work import UnitOfWork


def _needs_of_cart(command: MakeReservation, needs: Keys) -> None:
    """An id of our own making is new: there is nothing to look up."""
    for line in command.lines:
        needs.add(PRODUCTS, line.sku)
        needs.add(STOCK, line.sku)
        if line.sn is not None:
            needs.add(ITEMS, (line.sku, line.sn))
    if command.fingerprint is not None:
        needs.add(reservations.RESERVATIONS, command.reservation_id)


def _needs_of_item(command: ReserveItem, needs: Keys) -> None:
    items_room.needs(command, needs)
    needs.add(reservations.RESERVATIONS, command.reservation_id)


def _needs(command: ReservationCommand, needs: Keys) -> None:
    needs.add(reservations.RESERVATIONS, command.reservation_id)


def _outcome_of_cart(work: UnitOfWork, command: MakeReservation) -> Outcome:
    first = command.lines[0].sku
    return Outcome(
        work.position,
        product=work[PRODUCTS][first],
        stock=work[STOCK][first],
        reservation=work[reservations.RESERVATIONS][command.reservation_id],
        missing=carts.missing(work, command) if command.partial else (),
    )


def _outcome(work: UnitOfWork, command: ReservationCommand) -> Outcome:
    return Outcome(work.position, reservation=work[reservations.RESERVATIONS][command.reservation_id])


RESERVATIONS = Room(
    name="reservations",
    states=(reservations.RESERVATIONS,),
    rules={
        MakeReservation: Rule(carts.make, _needs_of_cart, _outcome_of_cart),
        ReserveItem: Rule(reserve_item, _needs_of_item, items_room.outcome),
        ReleaseItem: Rule(release_item, items_room.needs, items_room.outcome),
        ReleaseReservation: Rule(carts.release, _needs, _outcome),
        ExpireReservation: Rule(carts.write_down_expiry, _needs, _outcome),
        ExtendReservation: Rule(carts.extend, _needs, _outcome),
        PurchaseReservation: Rule(carts.purchase, _needs, _outcome),
        ReturnPurchase: Rule(carts.take_back, _needs, _outcome),
    },
    before=expire_met,
    recourse=Shortfall,
)
