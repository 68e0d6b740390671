"""Rules of carts that change, and of buying a part: given facts, when a command, then exactly these events."""

from datetime import timedelta
from uuid import UUID

import pytest

from ledger.catalogue.errors import UnknownProductError
from ledger.commands import Precondition
from ledger.errors import PreconditionFailedError
from ledger.items.events import ItemPurchased, ItemReleased, ItemReservationExtended, ItemReserved
from ledger.reservations.commands import (
    ChangeReservation,
    Line,
    PurchaseReservation,
    ReleaseItem,
    ReleaseReservation,
    ReserveItem,
)
from ledger.reservations.errors import NotHeldError, ReservationEndedError, UnknownReservationError
from ledger.reservations.reservations import RESERVATIONS, summed
from ledger.stock.errors import InsufficientStockError, Shortage
from ledger.stock.events import StockPurchased, StockReleased, StockReservationExtended, StockReserved
from tests.ledger.given import HOUR, ID, NOW, OTHER_ID, PURCHASE_ID, History, given
from tests.ledger.reservations.test_cart_rules import B1, EXPIRED, OF, A, R, cart, fungible, make, shop

MINUTE = timedelta(minutes=1)
CANCELLED = {"cause": "cancelled", **OF}


def change(*lines: Line, reservation_id: UUID = ID, **more) -> ChangeReservation:
    return ChangeReservation(reservation_id=reservation_id, lines=summed(lines), **R, **more)


def buy(*lines: Line, **more) -> PurchaseReservation:
    return PurchaseReservation(reservation_id=ID, purchase_id=PURCHASE_ID, lines=summed(lines), **R, **more)


def held(history: History) -> dict[str, int]:
    reservation = history.work[RESERVATIONS][ID]
    assert reservation is not None
    return {key: line.remaining for key, line in reservation.lines.items()}


def test_a_line_grows_until_when_it_was_held_anyway():
    history = cart(owner="ann")

    history.when(change(Line("A", 5), Line("B", sn="1")), at=NOW + MINUTE)

    assert history.then == [
        (A, StockReserved(quantity=2, on_hand=10, reserved=5, expires_at=NOW + HOUR, owner="ann", **OF))
    ]
    assert held(history) == {"A": 5, "B/1": 1}


def test_a_line_shrinks_and_another_goes():
    history = cart().when(change(Line("A", 1)))

    assert history.then == [
        (A, StockReleased(quantity=2, on_hand=10, reserved=1, **CANCELLED)),
        (B1, ItemReleased(**CANCELLED)),
    ]
    assert held(history) == {"A": 1, "B/1": 0}


def test_more_is_held_before_less_is_given_back_so_that_it_never_is_over():
    history = given(*shop(), *fungible("C", 4)).when(make(Line("A", 3)))

    history.when(change(Line("C", 2)))

    assert history.then == [
        ("stock/main/C", StockReserved(quantity=2, on_hand=4, reserved=2, expires_at=NOW + HOUR, **OF)),
        (A, StockReleased(quantity=3, on_hand=10, reserved=0, **CANCELLED)),
    ]
    assert history.outcome.reservation.state == "open"
    assert history.outcome.reservation.remaining == 2


def test_an_item_that_was_given_back_is_held_again():
    history = cart().when(change(Line("A", 3))).when(change(Line("A", 3), Line("B", sn="1")))

    assert history.then == [(B1, ItemReserved(expires_at=NOW + HOUR, **OF))]
    assert held(history) == {"A": 3, "B/1": 1}


def test_the_same_lines_again_change_nothing():
    history = cart()
    before = history.work[RESERVATIONS][ID]

    history.when(change(Line("B", sn="1"), Line("A", 3)), at=NOW + MINUTE)

    assert history.then == []
    assert history.outcome.reservation == before


def test_a_time_to_live_is_counted_from_now_for_every_line():
    history = cart()

    history.when(change(Line("A", 4), Line("B", sn="1"), ttl_seconds=7200), at=NOW + MINUTE)

    until = NOW + MINUTE + 2 * HOUR
    assert history.then == [
        (A, StockReservationExtended(quantity=3, on_hand=10, reserved=3, expires_at=until, **OF)),
        (B1, ItemReservationExtended(expires_at=until, **OF)),
        (A, StockReserved(quantity=1, on_hand=10, reserved=4, expires_at=until, **OF)),
    ]
    assert history.outcome.reservation.expires_at == until


def test_its_own_hold_is_available_to_it_and_every_short_line_is_named():
    history = given(*shop(), *fungible("C", 4)).when(make(Line("A", 6)))
    history.when(make(Line("A", 1), Line("B", sn="1"), Line("C", 4), reservation_id=OTHER_ID))

    history.when(change(Line("A", 9)))
    with pytest.raises(InsufficientStockError) as refusal:
        history.when(change(Line("A", 10), Line("B", sn="1"), Line("C", 1)))

    assert refusal.value.shortages == (Shortage("A", 10, 9, 1), Shortage("B", 1, 0, 1, "1"), Shortage("C", 1, 0, 4))
    assert history.then == []
    assert held(history) == {"A": 9}


def test_what_is_over_is_not_changed():
    history = cart()

    with pytest.raises(ReservationEndedError):
        history.when(change(Line("A", 1)), at=NOW + HOUR)
    assert history.then == [
        (A, StockReleased(quantity=3, on_hand=10, reserved=0, **EXPIRED)),
        (B1, ItemReleased(**EXPIRED)),
    ]


def test_an_item_whose_hold_is_over_can_be_taken_in():
    history = given(*shop()).when(make(Line("A", 1)))
    history.when(ReserveItem(sku="B", sn="1", reservation_id=OTHER_ID, ttl_seconds=60, **R))

    history.when(change(Line("A", 1), Line("B", sn="1")), at=NOW + MINUTE)

    assert history.then[-1] == (B1, ItemReserved(expires_at=NOW + HOUR, **OF))


def test_unknown_reservations_and_unknown_lines_are_named():
    history = cart()

    with pytest.raises(UnknownReservationError):
        history.when(change(Line("A", 1), reservation_id=OTHER_ID))
    with pytest.raises(UnknownProductError):
        history.when(change(Line("Z", 1)))


def test_a_change_can_ask_for_the_version_that_it_has_seen():
    history = cart()
    seen = history.work[RESERVATIONS][ID].version
    only_that = Precondition(frozenset({seen}))

    history.when(change(Line("A", 2), precondition=only_that))
    with pytest.raises(PreconditionFailedError):
        history.when(change(Line("A", 1), precondition=only_that))

    assert held(history) == {"A": 2, "B/1": 0}


def test_a_part_is_bought_and_the_rest_stays_held():
    history = cart().when(buy(Line("A", 2)))

    assert history.then == [(A, StockPurchased(quantity=2, on_hand=8, reserved=1, purchase_id=PURCHASE_ID, **OF))]
    assert history.outcome.reservation.state == "open"
    assert held(history) == {"A": 1, "B/1": 1}

    history.when(buy(Line("A", 1), Line("B", sn="1")))

    assert history.then == [
        (A, StockPurchased(quantity=1, on_hand=7, reserved=0, purchase_id=PURCHASE_ID, **OF)),
        (B1, ItemPurchased(purchase_id=PURCHASE_ID, **OF)),
    ]
    assert history.outcome.reservation.state == "purchased"


def test_no_more_is_bought_than_is_held_and_then_nothing_is():
    history = cart()

    with pytest.raises(NotHeldError):
        history.when(buy(Line("A", 2), Line("B", sn="2")))
    with pytest.raises(NotHeldError):
        history.when(buy(Line("A", 4)))
    assert history.then == []


def test_a_cart_of_which_a_part_was_bought_goes_on_changing():
    history = cart().when(buy(Line("A", 2)))

    history.when(change(Line("A", 4)))

    assert history.then == [
        (A, StockReserved(quantity=3, on_hand=8, reserved=4, expires_at=NOW + HOUR, **OF)),
        (B1, ItemReleased(**CANCELLED)),
    ]
    history.when(ReleaseReservation(reservation_id=ID, **R))
    assert history.outcome.reservation.state == "purchased"


def test_an_item_of_a_changed_cart_is_still_released_alone():
    history = cart().when(change(Line("A", 3))).when(change(Line("A", 3), Line("B", sn="1")))

    history.when(ReleaseItem(sku="B", sn="1", **R))

    assert history.then == [(B1, ItemReleased(**CANCELLED))]
    assert held(history) == {"A": 3, "B/1": 0}


def rehold(*lines: Line) -> PurchaseReservation:
    wanted = summed(lines) if lines else None
    return PurchaseReservation(reservation_id=ID, purchase_id=PURCHASE_ID, lines=wanted, rehold_seconds=600, **R)


def test_a_cart_that_expired_is_held_again_and_bought():
    history = cart(owner="ann", reference="order 7").when(change(Line("A", 2), Line("B", sn="1")))
    later = NOW + 2 * HOUR
    again = {"expires_at": later + 10 * MINUTE, "owner": "ann", "again": True, **OF, "reference": "order 7"}

    history.when(rehold(), at=later)

    assert history.then == [
        (A, StockReleased(quantity=2, on_hand=10, reserved=0, **EXPIRED)),
        (B1, ItemReleased(**EXPIRED)),
        (A, StockReserved(quantity=2, on_hand=10, reserved=2, **again)),
        (B1, ItemReserved(**again)),
        (A, StockPurchased(quantity=2, on_hand=8, reserved=0, purchase_id=PURCHASE_ID, **OF)),
        (B1, ItemPurchased(purchase_id=PURCHASE_ID, **OF)),
    ]
    assert history.outcome.reservation.state == "purchased"
    with pytest.raises(ReservationEndedError):
        history.when(rehold(), at=later)


def test_a_part_of_what_expired_is_bought_and_the_rest_is_held_again():
    history = cart()
    later = NOW + 2 * HOUR

    history.when(rehold(Line("A", 1)), at=later)

    reservation = history.outcome.reservation
    assert (reservation.state, reservation.expires_at, reservation.ended_at) == ("open", later + 10 * MINUTE, None)
    assert held(history) == {"A": 2, "B/1": 1}


def test_an_expired_cart_that_is_not_all_there_is_not_held_again_and_every_short_line_is_named():
    history = cart()
    later = NOW + 2 * HOUR
    history.when(make(Line("A", 8), Line("B", sn="1"), reservation_id=OTHER_ID), at=later)

    with pytest.raises(InsufficientStockError) as refused:
        history.when(rehold(), at=later)

    assert list(refused.value.shortages) == [Shortage("A", 3, 2, 8), Shortage("B", 1, 0, 1, "1")]
    assert history.then == []


def test_of_what_expired_no_more_is_bought_than_was_held():
    with pytest.raises(NotHeldError):
        cart().when(rehold(Line("A", 4)), at=NOW + 2 * HOUR)


def test_what_is_open_is_just_bought_and_what_was_released_or_bought_is_over():
    history = cart().when(rehold())
    assert [type(event) for _, event in history.then] == [StockPurchased, ItemPurchased]
    with pytest.raises(ReservationEndedError):
        history.when(rehold())

    released = cart().when(ReleaseReservation(reservation_id=ID, **R))
    with pytest.raises(ReservationEndedError):
        released.when(rehold())
    part = cart().when(buy(Line("A", 1)))
    with pytest.raises(ReservationEndedError):  # it counts as purchased, whatever of it expired
        part.when(rehold(), at=NOW + 2 * HOUR)
