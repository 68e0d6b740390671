"""Rules of items with serial numbers: given facts, when a command, then exactly these events or this refusal."""

import pytest
from msgspec import structs

from ledger.catalogue.commands import ProductChanges
from ledger.catalogue.errors import OtherKindError, UnknownProductError
from ledger.catalogue.events import ProductRegistered, ProductRevised
from ledger.commands import Precondition
from ledger.errors import PreconditionFailedError
from ledger.facts import Fact
from ledger.items.commands import ItemChanges, PutItem
from ledger.items.errors import ItemHeldError, ItemSoldError, UnknownItemError
from ledger.items.events import (
    ItemAdded,
    ItemPurchased,
    ItemReleased,
    ItemReservationExtended,
    ItemReserved,
    ItemReturned,
    ItemRevised,
)
from ledger.reservations.commands import Line, MakeReservation, ReleaseItem, ReserveItem
from ledger.reservations.errors import ReservationEndedError, ReservationIdTakenError
from ledger.reservations.reservations import RESERVATIONS
from ledger.stock.errors import InsufficientStockError, Shortage
from tests.ledger.given import BY, EXPIRED_BY, HOUR, ID, NOW, OTHER_ID, PURCHASE_ID, fungible, given

R = {"request_id": "r"}
STREAM = "item/B/1"


def put(**more) -> PutItem:
    return PutItem(sku="B", sn="1", purchase_id=PURCHASE_ID, **R, **more)


def reserve(reservation_id=ID) -> ReserveItem:
    return ReserveItem(sku="B", sn="1", reservation_id=reservation_id, ttl_seconds=3600, **R)


def release() -> ReleaseItem:
    return ReleaseItem(sku="B", sn="1", **R)


def item(*events) -> list[Fact]:
    """Item 1 of product B, with what happened to it since it was added."""
    registered = Fact("product/B", ProductRegistered(kind="non-fungible", **BY))
    return [registered, Fact(STREAM, ItemAdded(**BY)), *(Fact(STREAM, event) for event in events)]


def reserved(expires_at=NOW + HOUR) -> ItemReserved:
    return ItemReserved(reservation_id=ID, expires_at=expires_at, **BY)


def sold(reservation_id=None) -> ItemPurchased:
    return ItemPurchased(purchase_id=PURCHASE_ID, reservation_id=reservation_id, **BY)


def test_putting_an_unknown_item_registers_its_product_and_adds_it():
    history = given()

    history.when(put(product=ProductChanges(description="Motorcycle"), item=ItemChanges(color="Red", price_cents=5)))

    assert history.then == [
        ("product/B", ProductRegistered(kind="non-fungible", description="Motorcycle", **BY)),
        (STREAM, ItemAdded(color="Red", price_cents=5, **BY)),
    ]


def test_putting_an_item_again_records_only_what_differs():
    history = given(*item())

    history.when(put(product=ProductChanges(shipping_weight_grams=7), item=ItemChanges(notes="Scratched", color=None)))

    assert history.then == [
        ("product/B", ProductRevised(shipping_weight_grams=7, **BY)),
        (STREAM, ItemRevised(notes="Scratched", **BY)),
    ]


def test_an_item_can_be_added_as_sold():
    history = given()

    history.when(put(sold=True))

    assert history.then[1:] == [(STREAM, ItemAdded(**BY)), (STREAM, sold())]


def test_selling_a_reserved_item_ends_the_reservation_with_a_purchase():
    history = given(*item(reserved()))

    history.when(put(sold=True))

    assert history.then == [(STREAM, sold(ID))]
    assert history.work[RESERVATIONS][ID].state == "purchased"


def test_selling_an_item_whose_hold_is_over_is_not_a_purchase_under_it():
    history = given(*item(reserved()))

    history.when(put(sold=True), at=NOW + HOUR)

    released = ItemReleased(reservation_id=ID, cause="expired", **EXPIRED_BY)
    assert history.then == [(STREAM, released), (STREAM, sold())]


def test_taking_a_sold_item_back_records_a_return_under_its_reservation():
    history = given(*item(reserved(), sold(ID)))

    history.when(put(sold=False))

    assert history.then == [(STREAM, ItemReturned(reservation_id=ID, **BY))]
    assert history.outcome.item.sold is False


def test_selling_a_sold_item_again_records_nothing():
    history = given(*item(sold()))

    history.when(put(sold=True))

    assert history.then == []


def test_reserving_an_item_holds_it():
    history = given(*item())

    history.when(reserve())

    assert history.then == [(STREAM, reserved())]
    assert (history.outcome.item.reserved_at, history.outcome.item.reserved_until) == (NOW, NOW + HOUR)


def test_an_item_that_another_holds_cannot_be_reserved():
    history = given(*item(reserved()))

    with pytest.raises(ItemHeldError):
        history.when(reserve(OTHER_ID), at=NOW + HOUR - NOW.resolution)

    assert history.then == []


def test_an_item_whose_hold_is_over_can_be_reserved_by_another():
    history = given(*item(reserved()))

    history.when(reserve(OTHER_ID), at=NOW + HOUR)

    assert history.then == [
        (STREAM, ItemReleased(reservation_id=ID, cause="expired", **EXPIRED_BY)),
        (STREAM, ItemReserved(reservation_id=OTHER_ID, expires_at=NOW + 2 * HOUR, **BY)),
    ]


def test_the_same_reservation_again_extends_it_from_now():
    history = given(*item(reserved()))

    history.when(reserve(), at=NOW + HOUR / 2)

    extended = ItemReservationExtended(reservation_id=ID, expires_at=NOW + HOUR * 1.5, **BY)
    assert history.then == [(STREAM, extended)]


def test_a_reservation_that_is_over_is_not_revived_by_reserving_again():
    history = given(*item(reserved()))

    with pytest.raises(ReservationEndedError):
        history.when(reserve(), at=NOW + HOUR)


def test_the_id_of_a_reservation_of_something_else_is_taken():
    other = Fact("item/B/2", ItemAdded(**BY))
    history = given(*item(), other, Fact("item/B/2", reserved()))

    with pytest.raises(ReservationIdTakenError):
        history.when(reserve())


def test_a_sold_item_cannot_be_reserved():
    with pytest.raises(ItemSoldError):
        given(*item(sold())).when(reserve())


def test_releasing_an_item_frees_it():
    history = given(*item(reserved()))

    history.when(release())

    assert history.then == [(STREAM, ItemReleased(reservation_id=ID, cause="cancelled", **BY))]
    assert history.outcome.item.reserved_at is None
    assert history.work[RESERVATIONS][ID].state == "released"


def test_releasing_a_free_item_records_nothing():
    history = given(*item())

    history.when(release())

    assert history.then == []


def test_releasing_an_item_whose_hold_is_over_records_that_it_expired():
    history = given(*item(reserved()))

    history.when(release(), at=NOW + HOUR)

    assert history.then == [(STREAM, ItemReleased(reservation_id=ID, cause="expired", **EXPIRED_BY))]


def test_a_sold_item_cannot_be_released():
    with pytest.raises(ItemSoldError):
        given(*item(sold())).when(release())


@pytest.mark.parametrize("command", [reserve(), release()])
def test_an_unknown_product_is_said_before_an_unknown_item(command):
    with pytest.raises(UnknownProductError):
        given().when(command)


@pytest.mark.parametrize("command", [reserve(), release()])
def test_an_unknown_item_of_a_known_product(command):
    history = given(Fact("product/B", ProductRegistered(kind="non-fungible", **BY)))

    with pytest.raises(UnknownItemError):
        history.when(command)


@pytest.mark.parametrize("command", [put(), reserve(), release()])
def test_items_of_a_fungible_product_are_refused(command):
    with pytest.raises(OtherKindError):
        given(*fungible("B")).when(command)


def test_the_version_of_a_precondition_counts_product_and_item_facts():
    history = given(*item())

    history.when(put(sold=True, precondition=Precondition(frozenset({2}))))

    with pytest.raises(PreconditionFailedError):
        history.when(put(sold=False, precondition=Precondition(frozenset({2}))))


def test_a_fungible_product_takes_no_items():
    with pytest.raises(OtherKindError):
        given(*fungible("B")).when(put())


def test_a_sold_item_is_short_and_nobody_holds_it():
    sold = ItemPurchased(purchase_id=PURCHASE_ID, **BY)
    cart = MakeReservation(reservation_id=OTHER_ID, lines=(Line("B", 1, "1"),), ttl_seconds=3600, **R)

    with pytest.raises(InsufficientStockError) as refused:
        given(*item(sold)).when(cart)

    assert refused.value.shortages == (Shortage("B", 1, 0, 0, "1"),)


@pytest.mark.parametrize("command", [reserve, release])
@pytest.mark.parametrize(("versions", "holds"), [({2}, True), ({0}, False), ({1}, False), ({3}, False)])
def test_holds_on_an_item_heed_a_precondition_on_product_and_item(command, versions: set[int], holds: bool):
    guarded = structs.replace(command(), precondition=Precondition(frozenset(versions)))

    if holds:
        given(*item()).when(guarded)
    else:
        with pytest.raises(PreconditionFailedError):
            given(*item()).when(guarded)


def test_an_item_that_is_not_there_has_no_version_even_if_its_product_has():
    product = Fact("product/B", ProductRegistered(kind="non-fungible", **BY))
    absent = structs.replace(put(), precondition=Precondition(frozenset()))

    assert len(given(product).when(absent).then) == 1
    with pytest.raises(PreconditionFailedError) as refused:
        given(product).when(structs.replace(put(), precondition=Precondition(frozenset({1}))))
    assert str(refused.value) == "It does not exist."


def test_whoever_wanted_none_is_told_that_there_is_one():
    with pytest.raises(PreconditionFailedError) as refused:
        given(*item()).when(structs.replace(put(), precondition=Precondition(frozenset())))

    assert str(refused.value) == "It exists already."


def test_whoever_wanted_another_version_is_told_which_it_has():
    with pytest.raises(PreconditionFailedError) as refused:
        given(*item()).when(structs.replace(put(), precondition=Precondition(frozenset({9}))))

    assert str(refused.value) == "It has version 2."
