"""Rules of carts: given facts, when a command, then exactly these events or this refusal."""

from uuid import UUID

import pytest

from ledger.catalogue.errors import UnknownProductError
from ledger.catalogue.events import ProductRegistered
from ledger.commands import Precondition
from ledger.errors import PreconditionFailedError
from ledger.facts import Fact
from ledger.items.errors import UnknownItemError
from ledger.items.events import (
    ItemAdded,
    ItemPurchased,
    ItemReleased,
    ItemReservationExtended,
    ItemReserved,
    ItemReturned,
)
from ledger.reservations.commands import (
    ExpireReservation,
    ExtendReservation,
    Line,
    MakeReservation,
    PurchaseReservation,
    ReleaseReservation,
    ReturnPurchase,
)
from ledger.reservations.errors import (
    NotHeldError,
    ReservationEndedError,
    ReservationIdTakenError,
    UnknownReservationError,
)
from ledger.reservations.reservations import summed
from ledger.stock.errors import InsufficientStockError, Shortage
from ledger.stock.events import StockPurchased, StockReleased, StockReservationExtended, StockReserved, StockReturned
from tests.ledger.given import (
    BY,
    EXPIRED_BY,
    HOUR,
    ID,
    NOW,
    OTHER_ID,
    PURCHASE_ID,
    History,
    fungible,
    given,
    reservations_in,
)

R = {"request_id": "r"}
A, B1 = "stock/main/A", "item/B/1"
OF = {"reservation_id": ID, **BY}
EXPIRED = {"reservation_id": ID, "cause": "expired", **EXPIRED_BY}


def shop() -> list[Fact]:
    """Ten of A, and item 1 of B."""
    product = Fact("product/B", ProductRegistered(kind="non-fungible", **BY))
    return [*fungible("A", 10), product, Fact(B1, ItemAdded(**BY))]


def make(*lines: Line, reservation_id: UUID = ID, **more) -> MakeReservation:
    return MakeReservation(reservation_id=reservation_id, lines=summed(lines), ttl_seconds=3600, **R, **more)


def cart(**more) -> History:
    """Three of A and item 1 of B are held for an hour."""
    return given(*shop()).when(make(Line("A", 3), Line("B", sn="1"), **more))


def test_a_cart_reserves_all_its_lines_under_one_id():
    history = given(*shop())

    history.when(make(Line("B", sn="1"), Line("A", 3), owner="ann", reference="order 7"))

    until = {"expires_at": NOW + HOUR, "owner": "ann", "reference": "order 7"}
    assert history.then == [
        (A, StockReserved(quantity=3, on_hand=10, reserved=3, **OF, **until)),
        (B1, ItemReserved(**OF, **until)),
    ]


def test_lines_of_the_same_sku_are_summed():
    history = given(*shop())

    history.when(make(Line("A", 3), Line("A", 4)))

    assert [event.quantity for _, event in history.then] == [7]


def test_the_same_item_twice_is_one_line():
    assert summed([Line("B", sn="1"), Line("B", sn="1")]) == (Line("B", 1, "1"),)


def test_a_short_cart_names_every_short_line_and_reserves_none():
    history = cart()

    with pytest.raises(InsufficientStockError) as refusal:
        history.when(make(Line("A", 8), Line("B", sn="1"), reservation_id=OTHER_ID))

    assert refusal.value.shortages == (Shortage("A", 8, 7, 3), Shortage("B", 1, 0, 1, "1"))
    assert history.then == []


def test_a_partial_cart_takes_what_there_is_and_says_what_is_missing():
    history = cart()

    history.when(make(Line("A", 8), Line("B", sn="1"), reservation_id=OTHER_ID, partial=True))

    assert [(stream, event.quantity) for stream, event in history.then] == [(A, 7)]
    assert history.outcome.missing == (Shortage("A", 8, 7, 3), Shortage("B", 1, 0, 1, "1"))


def test_a_partial_cart_of_nothing_is_refused():
    history = given(*shop()).when(make(Line("A", 10)))

    with pytest.raises(InsufficientStockError):
        history.when(make(Line("A", 1), reservation_id=OTHER_ID, partial=True))


def test_an_unknown_line_is_said_before_a_shortage():
    history = given(*shop())

    with pytest.raises(UnknownProductError):
        history.when(make(Line("A", 11), Line("Z", 1)))
    with pytest.raises(UnknownItemError):
        history.when(make(Line("A", 11), Line("B", sn="9")))


def test_the_same_id_with_the_same_content_records_nothing_more():
    history = cart(fingerprint="f")

    history.when(make(Line("A", 3), Line("B", sn="1"), fingerprint="f"))

    assert history.then == []
    assert history.outcome.reservation.reservation_id == ID


def test_the_same_id_with_other_content_is_refused():
    history = cart(fingerprint="f")

    with pytest.raises(ReservationIdTakenError):
        history.when(make(Line("A", 1), fingerprint="g"))


def test_a_purchase_takes_every_line_out_of_the_inventory():
    history = cart()

    history.when(PurchaseReservation(reservation_id=ID, purchase_id=PURCHASE_ID, **R), at=NOW + HOUR - NOW.resolution)

    assert history.then == [
        (A, StockPurchased(quantity=3, on_hand=7, reserved=0, purchase_id=PURCHASE_ID, **OF)),
        (B1, ItemPurchased(purchase_id=PURCHASE_ID, **OF)),
    ]
    assert history.outcome.reservation.state == "purchased"


@pytest.mark.parametrize(
    "command",
    [
        PurchaseReservation(reservation_id=ID, purchase_id=PURCHASE_ID, **R),
        ExtendReservation(reservation_id=ID, ttl_seconds=60, **R),
        ReleaseReservation(reservation_id=ID, lines=(Line("A", 1),), **R),
    ],
)
def test_over_means_over_whether_or_not_it_is_written_down(command):
    history = cart()

    with pytest.raises(ReservationEndedError) as refusal:
        history.when(command, at=NOW + HOUR)

    assert refusal.value.members["state"] == "expired"
    assert history.then == [
        (A, StockReleased(quantity=3, on_hand=10, reserved=0, **EXPIRED)),
        (B1, ItemReleased(**EXPIRED)),
    ]


def test_expiry_releases_all_lines_together_and_once():
    history = cart()
    expire = ExpireReservation(reservation_id=ID, **R)

    assert history.when(expire, at=NOW + HOUR - NOW.resolution).then == []
    assert len(history.when(expire, at=NOW + HOUR).then) == 2
    assert history.when(expire, at=NOW + HOUR).then == []
    assert history.outcome.reservation.state == "expired"


def test_releasing_gives_back_every_line():
    history = cart()

    history.when(ReleaseReservation(reservation_id=ID, **R))

    assert history.then == [
        (A, StockReleased(quantity=3, on_hand=10, reserved=0, cause="cancelled", **OF)),
        (B1, ItemReleased(cause="cancelled", **OF)),
    ]
    assert history.outcome.reservation.state == "released"


def test_releasing_what_is_released_or_expired_records_nothing():
    history = cart().when(ReleaseReservation(reservation_id=ID, **R))

    assert history.when(ReleaseReservation(reservation_id=ID, **R)).then == []


def test_what_is_purchased_cannot_be_released():
    history = cart().when(PurchaseReservation(reservation_id=ID, purchase_id=PURCHASE_ID, **R))

    with pytest.raises(ReservationEndedError):
        history.when(ReleaseReservation(reservation_id=ID, **R))


def test_part_of_a_line_can_be_released_and_the_rest_purchased():
    history = cart()

    history.when(ReleaseReservation(reservation_id=ID, lines=(Line("A", 1), Line("B", sn="1")), **R))
    assert history.then == [
        (A, StockReleased(quantity=1, on_hand=10, reserved=2, cause="cancelled", **OF)),
        (B1, ItemReleased(cause="cancelled", **OF)),
    ]

    history.when(PurchaseReservation(reservation_id=ID, purchase_id=PURCHASE_ID, **R))
    assert history.then == [(A, StockPurchased(quantity=2, on_hand=8, reserved=0, purchase_id=PURCHASE_ID, **OF))]
    line = history.outcome.reservation.lines["A"]
    assert (line.quantity, line.released, line.purchased) == (3, 1, 2)


def test_releasing_the_last_line_ends_the_reservation():
    history = cart().when(ReleaseReservation(reservation_id=ID, lines=(Line("A", 3), Line("B", sn="1")), **R))

    assert history.outcome.reservation.state == "released"


@pytest.mark.parametrize("line", [Line("A", 4), Line("Z", 1), Line("B", sn="2")])
def test_more_than_is_held_cannot_be_released(line):
    history = cart()

    with pytest.raises(NotHeldError):
        history.when(ReleaseReservation(reservation_id=ID, lines=(line,), **R))

    assert history.then == []


def test_extending_counts_from_now_for_every_line():
    history = cart()

    history.when(ExtendReservation(reservation_id=ID, ttl_seconds=3600, **R), at=NOW + HOUR / 2)

    until = NOW + HOUR * 1.5
    assert history.then == [
        (A, StockReservationExtended(quantity=3, on_hand=10, reserved=3, expires_at=until, **OF)),
        (B1, ItemReservationExtended(expires_at=until, **OF)),
    ]
    assert history.outcome.reservation.expires_at == until


def test_purchased_goods_can_be_returned_once():
    history = cart().when(PurchaseReservation(reservation_id=ID, purchase_id=PURCHASE_ID, **R))
    back = ReturnPurchase(reservation_id=ID, lines=(Line("A", 2), Line("B", sn="1")), **R)

    history.when(back)

    assert history.then == [
        (A, StockReturned(quantity=2, on_hand=9, reserved=0, **OF)),
        (B1, ItemReturned(**OF)),
    ]
    with pytest.raises(NotHeldError):
        history.when(back)
    assert history.outcome.reservation.state == "purchased"


@pytest.mark.parametrize(
    "command",
    [
        PurchaseReservation(reservation_id=ID, purchase_id=PURCHASE_ID, **R),
        ExtendReservation(reservation_id=ID, ttl_seconds=60, **R),
        ReleaseReservation(reservation_id=ID, **R),
        ReturnPurchase(reservation_id=ID, lines=(Line("A", 1),), **R),
    ],
)
def test_an_unknown_reservation(command):
    with pytest.raises(UnknownReservationError):
        given(*shop()).when(command)


def test_every_event_of_a_cart_names_its_reservation():
    assert reservations_in(cart()) == {ID}


def test_whoever_repeats_a_cart_that_has_ended_is_told_so():
    cart = MakeReservation(reservation_id=ID, lines=(Line("A", 1),), ttl_seconds=3600, fingerprint="f", **R)
    history = given(*shop()).when(cart)
    history.when(ReleaseReservation(reservation_id=ID, **R))

    with pytest.raises(ReservationEndedError):
        history.when(cart)


def test_what_the_reservation_never_held_is_not_released_or_taken_back():
    history = given(*shop()).when(MakeReservation(reservation_id=ID, lines=(Line("A", 1),), ttl_seconds=3600, **R))

    for command in (ReleaseReservation, ReturnPurchase):
        with pytest.raises(NotHeldError) as refused:
            history.when(command(reservation_id=ID, lines=(Line("B", 1, "1"),), **R))
        assert refused.value.members["available"] == 0


@pytest.mark.parametrize(("versions", "holds"), [({2}, True), ({1}, False), ({0}, False), ({3}, False)])
def test_a_precondition_is_about_product_and_stock_together(versions: set[int], holds: bool):
    precondition = Precondition(frozenset(versions))
    cart = MakeReservation(reservation_id=ID, lines=(Line("A", 1),), ttl_seconds=3600, precondition=precondition, **R)
    history = given(*fungible("A", 10))

    if holds:
        assert len(history.when(cart).then) == 1
    else:
        with pytest.raises(PreconditionFailedError):
            history.when(cart)


def test_a_partial_cart_names_what_is_missing_and_only_that():
    history = given(*shop(), *fungible("C", 2))
    cart = MakeReservation(
        reservation_id=ID, lines=(Line("A", 10), Line("B", 1, "1"), Line("C", 3)), ttl_seconds=3600, partial=True, **R
    )

    assert history.when(cart).outcome.missing == (Shortage("C", 3, 2, 0),)


def test_a_partial_cart_that_gets_nothing_of_a_line_names_all_of_it():
    history = given(*shop(), *fungible("C"))
    cart = MakeReservation(reservation_id=ID, lines=(Line("A", 1), Line("C", 3)), ttl_seconds=3600, partial=True, **R)

    assert history.when(cart).outcome.missing == (Shortage("C", 3, 0, 0),)
