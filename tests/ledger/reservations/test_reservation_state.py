"""What facts make of a reservation, of an item and of stock: given a state and a fact, then exactly this state."""

from datetime import timedelta

import pytest
from msgspec import structs

from ledger.facts import Entry, Event
from ledger.items import items
from ledger.items.events import ItemAdded, ItemReserved, ItemRevised
from ledger.items.items import Item
from ledger.reservations.reservations import HeldLine, Reservation, evolve
from ledger.stock import levels
from ledger.stock.events import (
    StockAdded,
    StockPurchased,
    StockReleased,
    StockReservationExtended,
    StockReserved,
    StockReturned,
)
from ledger.stock.levels import Stock
from tests.ledger.given import BY, HOUR, ID, NOW, PURCHASE_ID

OF = {"reservation_id": ID, "on_hand": 9, "reserved": 3, **BY}
LATER = NOW + HOUR
OPEN = Reservation(ID, 5, "open", "ann", None, NOW, LATER, None, None, 3, {"A": HeldLine("A", 3)})


def entry(event: Event, stream: str = "stock/main/A") -> Entry:
    return Entry(6, NOW + timedelta(minutes=1), stream, 2, event)


def test_a_line_knows_what_is_left_of_it():
    assert HeldLine("A", 7, released=2, purchased=1, returned=1).remaining == 4


def test_what_was_reserved_first_makes_the_reservation_and_further_lines_join_it():
    first = StockReserved(quantity=2, expires_at=LATER, owner="ann", fingerprint="f", reference="r", **OF)
    made = evolve(None, entry(first))
    joined = evolve(made, entry(ItemReserved(reservation_id=ID, expires_at=LATER, **BY), "item/B/1"))

    at = NOW + timedelta(minutes=1)
    assert made == Reservation(ID, 6, "open", "ann", "r", at, LATER, None, "f", 2, {"A": HeldLine("A", 2)})
    assert joined == structs.replace(made, remaining=3, lines={**made.lines, "B/1": HeldLine("B", 1, "1")})


@pytest.mark.parametrize(
    ("event", "line", "members"),
    [
        (StockReleased(quantity=1, cause="cancelled", **OF), {"released": 1}, {"remaining": 2}),
        (StockPurchased(quantity=1, purchase_id=PURCHASE_ID, **OF), {"purchased": 1}, {"remaining": 2}),
        (StockReturned(quantity=1, **OF), {"returned": 1}, {}),
        (StockReservationExtended(quantity=3, expires_at=LATER + HOUR, **OF), {}, {"expires_at": LATER + HOUR}),
    ],
)
def test_each_fact_about_a_line_changes_just_that(event: Event, line: dict[str, int], members: dict[str, object]):
    expected = structs.replace(OPEN, lines={"A": structs.replace(OPEN.lines["A"], **line)}, **members)

    assert evolve(OPEN, entry(event)) == expected


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (StockReleased(quantity=3, cause="cancelled", **OF), "released"),
        (StockReleased(quantity=3, cause="expired", **OF), "expired"),
        (StockPurchased(quantity=3, purchase_id=PURCHASE_ID, **OF), "purchased"),
    ],
)
def test_the_last_unit_ends_it(event: Event, state: str):
    ended = evolve(OPEN, entry(event))

    assert (ended.state, ended.remaining, ended.ended_at) == (state, 0, NOW + timedelta(minutes=1))


@pytest.mark.parametrize(
    ("reservation", "now", "state"),
    [
        (OPEN, LATER - timedelta(microseconds=1), "open"),
        (OPEN, LATER, "expired"),
        (structs.replace(OPEN, lines={"A": HeldLine("A", 4, purchased=1)}), LATER, "purchased"),
        (structs.replace(OPEN, state="released"), LATER, "released"),
    ],
)
def test_by_the_clock_it_is_over_at_its_end(reservation: Reservation, now, state: str):
    assert reservation.state_at(now) == state


def test_what_is_no_fact_of_a_reservation_is_a_defect():
    with pytest.raises(TypeError, match="must reserve"):
        evolve(None, entry(StockReleased(quantity=1, cause="cancelled", **OF)))
    with pytest.raises(TypeError, match="not a fact of a reservation"):
        evolve(OPEN, entry(StockAdded(quantity=1, on_hand=1, reserved=0, **BY)))


def test_a_revision_of_an_item_changes_what_it_holds_and_nothing_else():
    item = Item("B", "1", "Red", "worn", 100, False, 1, NOW)

    revised = items.evolve(item, entry(ItemRevised(notes=None, price_cents=0, **BY), "item/B/1"))

    at = NOW + timedelta(minutes=1)
    assert revised == structs.replace(item, notes=None, price_cents=0, version=2, updated_at=at)


def test_what_is_no_fact_of_an_item_or_of_stock_is_a_defect():
    item = Item("B", "1", None, None, 0, False, 1, NOW)
    with pytest.raises(TypeError, match="must be ItemAdded"):
        items.evolve(None, entry(ItemRevised(notes="x", **BY), "item/B/1"))
    with pytest.raises(TypeError, match="not a fact of an item"):
        items.evolve(item, entry(StockAdded(quantity=1, on_hand=1, reserved=0, **BY), "item/B/1"))
    with pytest.raises(TypeError, match="not a fact of stock"):
        levels.evolve(Stock("A"), entry(ItemAdded(**BY)))
