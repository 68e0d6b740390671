"""Rules of fungible stock: given facts, when a command, then exactly these events or this refusal."""

import pytest
from msgspec.structs import replace

from ledger.catalogue.commands import ProductChanges
from ledger.catalogue.errors import OtherKindError, UnknownProductError
from ledger.catalogue.events import ProductRegistered, ProductRevised
from ledger.commands import Precondition
from ledger.errors import PreconditionFailedError
from ledger.facts import Fact
from ledger.identifiers import MAX_INTEGER
from ledger.reservations.commands import Line, MakeReservation
from ledger.stock.commands import AddStock, PutFungible, RemoveStock
from ledger.stock.errors import InsufficientStockError, Shortage, StockLimitError
from ledger.stock.events import StockAdded, StockRemoved, StockReserved
from ledger.stock.levels import Stock, put_back
from tests.ledger.given import BY, HOUR, ID, NOW, OTHER_ID, fungible, given, stock

R = {"request_id": "r"}


def reserve(quantity: int, reservation_id=ID, **more) -> MakeReservation:
    return MakeReservation(
        reservation_id=reservation_id, lines=(Line("A", quantity),), ttl_seconds=3600, request_id="r", **more
    )


def held(quantity: int, reserved: int, on_hand: int, reservation_id=ID, expires_at=NOW + HOUR) -> Fact:
    return stock(
        "A",
        StockReserved(
            quantity=quantity,
            on_hand=on_hand,
            reserved=reserved,
            reservation_id=reservation_id,
            expires_at=expires_at,
            **BY,
        ),
    )


def test_putting_an_unknown_sku_registers_it():
    history = given()

    history.when(PutFungible(sku="A", changes=ProductChanges(color="Red", unit_price_cents=300), **R))

    assert history.then == [
        ("product/A", ProductRegistered(kind="fungible", color="Red", unit_price_cents=300, **BY)),
    ]


def test_putting_with_an_amount_records_the_difference_as_added():
    history = given(*fungible("A", 10))

    history.when(PutFungible(sku="A", amount_in_stock=12, **R))

    assert history.then == [("stock/main/A", StockAdded(quantity=2, on_hand=12, reserved=0, **BY))]


def test_putting_with_a_smaller_amount_records_the_difference_as_removed():
    history = given(*fungible("A", 10))

    history.when(PutFungible(sku="A", amount_in_stock=4, **R))

    assert history.then == [("stock/main/A", StockRemoved(quantity=6, on_hand=4, reserved=0, **BY))]


def test_putting_what_is_there_already_records_nothing():
    history = given(*fungible("A", 10))

    history.when(PutFungible(sku="A", amount_in_stock=10, changes=ProductChanges(color=None), **R))

    assert history.then == []


def test_putting_records_only_the_members_that_differ():
    history = given(Fact("product/A", ProductRegistered(kind="fungible", color="Red", name="Pen", **BY)))

    history.when(PutFungible(sku="A", changes=ProductChanges(color=None, name="Pen", unit_price_cents=5), **R))

    assert history.then == [("product/A", ProductRevised(color=None, unit_price_cents=5, **BY))]


def test_the_level_cannot_be_set_below_what_is_reserved():
    history = given(*fungible("A", 10), held(8, 8, 10))

    with pytest.raises(InsufficientStockError) as refusal:
        history.when(PutFungible(sku="A", amount_in_stock=7, **R))

    assert refusal.value.shortages == (Shortage("A", requested=3, available=2, held_by_others=8),)
    assert history.then == []


def test_adding_carries_the_balance():
    history = given(*fungible("A", 10), held(8, 8, 10))

    history.when(AddStock(sku="A", quantity=5, reason="delivery", reference="PO-7", **R))

    expected = StockAdded(quantity=5, on_hand=15, reserved=8, reason="delivery", reference="PO-7", **BY)
    assert history.then == [("stock/main/A", expected)]
    assert (history.outcome.stock.on_hand, history.outcome.stock.available) == (15, 7)


def test_stock_may_reach_the_limit():
    history = given(*fungible("A", MAX_INTEGER - 1))

    history.when(AddStock(sku="A", quantity=1, **R))

    assert history.outcome.stock.on_hand == MAX_INTEGER


def test_stock_may_not_exceed_the_limit():
    history = given(*fungible("A", MAX_INTEGER))

    with pytest.raises(StockLimitError):
        history.when(AddStock(sku="A", quantity=1, **R))

    assert history.then == []


def test_what_is_available_can_be_removed_to_the_last_piece():
    history = given(*fungible("A", 10), held(8, 8, 10))

    history.when(RemoveStock(sku="A", quantity=2, **R))

    assert history.then == [("stock/main/A", StockRemoved(quantity=2, on_hand=8, reserved=8, **BY))]


def test_what_is_reserved_cannot_be_removed():
    history = given(*fungible("A", 10), held(8, 8, 10))

    with pytest.raises(InsufficientStockError) as refusal:
        history.when(RemoveStock(sku="A", quantity=3, **R))

    assert refusal.value.shortages == (Shortage("A", requested=3, available=2, held_by_others=8),)
    assert history.then == []


def test_reserving_holds_for_the_time_asked():
    history = given(*fungible("A", 10))

    history.when(reserve(3, owner="cart-1"))

    expected = StockReserved(
        quantity=3, on_hand=10, reserved=3, reservation_id=ID, expires_at=NOW + HOUR, owner="cart-1", **BY
    )
    assert history.then == [("stock/main/A", expected)]


def test_the_last_piece_can_be_reserved():
    history = given(*fungible("A", 10), held(8, 8, 10))

    history.when(reserve(2, OTHER_ID))

    assert history.outcome.stock.available == 0


def test_cannot_reserve_more_than_is_available():
    history = given(*fungible("A", 10), held(8, 8, 10))

    with pytest.raises(InsufficientStockError) as refusal:
        history.when(reserve(3, OTHER_ID))

    assert refusal.value.shortages == (Shortage("A", requested=3, available=2, held_by_others=8),)
    assert history.then == []


@pytest.mark.parametrize(
    "command", [AddStock(sku="A", quantity=1, **R), RemoveStock(sku="A", quantity=1, **R), reserve(1)]
)
def test_an_unknown_product_is_said_before_anything_else(command):
    with pytest.raises(UnknownProductError):
        given().when(command)


@pytest.mark.parametrize(
    "command",
    [
        PutFungible(sku="A", precondition=Precondition(frozenset({9})), **R),
        AddStock(sku="A", quantity=1, precondition=Precondition(frozenset({9})), **R),
        RemoveStock(sku="A", quantity=1, precondition=Precondition(frozenset({9})), **R),
        reserve(1, precondition=Precondition(frozenset({9}))),
    ],
)
def test_the_other_kind_is_said_before_the_precondition(command):
    history = given(Fact("product/A", ProductRegistered(kind="non-fungible", **BY)))

    with pytest.raises(OtherKindError):
        history.when(command)


@pytest.mark.parametrize("command", [RemoveStock(sku="A", quantity=11, **R), reserve(11)])
def test_a_failed_precondition_is_said_before_a_shortage(command):
    history = given(*fungible("A", 10))

    with pytest.raises(PreconditionFailedError):
        history.when(replace(command, precondition=Precondition(frozenset({9}))))


def test_the_version_of_a_precondition_counts_product_and_stock_facts():
    history = given(*fungible("A", 10))

    history.when(AddStock(sku="A", quantity=1, precondition=Precondition(frozenset({2})), **R))

    assert history.outcome.stock.on_hand == 11


def test_a_product_that_must_not_exist_yet_is_not_touched():
    history = given(*fungible("A", 10))

    with pytest.raises(PreconditionFailedError):
        history.when(PutFungible(sku="A", amount_in_stock=1, precondition=Precondition(frozenset()), **R))

    assert history.then == []


def test_a_product_that_must_exist_is_not_registered():
    with pytest.raises(PreconditionFailedError):
        given().when(PutFungible(sku="A", precondition=Precondition(None), **R))


@pytest.mark.parametrize(("versions", "holds"), [({2}, True), ({0}, False), ({1}, False), ({3}, False)])
def test_a_put_heeds_a_precondition_on_product_and_stock(versions: set[int], holds: bool):
    command = PutFungible(sku="A", amount_in_stock=11, precondition=Precondition(frozenset(versions)))

    if holds:
        assert len(given(*fungible("A", 10)).when(command).then) == 1
    else:
        with pytest.raises(PreconditionFailedError):
            given(*fungible("A", 10)).when(command)


def test_what_comes_back_may_not_exceed_the_limit():
    with pytest.raises(StockLimitError):
        put_back(Stock("A", on_hand=MAX_INTEGER), 1)
    assert put_back(Stock("A", on_hand=MAX_INTEGER - 1), 1) == MAX_INTEGER
