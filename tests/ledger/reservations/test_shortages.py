"""Demand that was refused, counted by day and SKU in the transaction that refused it."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from ledger.commands import Command, Key
from ledger.engine.ledger import Ledger
from ledger.errors import LedgerError
from ledger.items.commands import PutItem
from ledger.reservations.commands import Line, MakeReservation, ReserveItem
from ledger.stock.commands import AddStock, PutFungible, RemoveStock
from ledger.stock.errors import InsufficientStockError
from ledger.store.connection import Connection


@pytest.fixture(autouse=True)
def stocked(ledger: Ledger) -> None:
    """10 of A, 3 of B, and the item C 1."""
    ledger.handle(PutFungible(sku="A", amount_in_stock=10))
    ledger.handle(PutFungible(sku="B", amount_in_stock=3))
    ledger.handle(PutItem(sku="C", sn="1", purchase_id=uuid4()))


def cart(*lines: Line, partial: bool = False, reservation_id: UUID | None = None, **more) -> MakeReservation:
    return MakeReservation(
        reservation_id=reservation_id or uuid4(), lines=lines, ttl_seconds=600, partial=partial, **more
    )


def item(sn: str = "1") -> ReserveItem:
    return ReserveItem(sku="C", sn=sn, reservation_id=uuid4(), ttl_seconds=600)


def handle(ledger: Ledger, *commands: Command, atomic: bool = False) -> list[bool]:
    """Which of them were carried out."""
    return [not isinstance(r, LedgerError) for r in ledger.handle_many(commands, atomic=atomic)]


def counted(conn: Connection) -> dict[str, tuple[int, int, int]]:
    """Requests, units asked for and units short by SKU, all of today."""
    rows = conn.execute("SELECT day, sku, requests, requested::bigint, short::bigint FROM shortages_daily").fetchall()
    assert {(datetime.now(UTC).date() - row[0]).days for row in rows} <= {0, 1}  # it may have been midnight
    return {sku: tuple(counts) for _, sku, *counts in rows}


def test_each_short_line_of_a_refused_cart_is_counted_and_no_other(ledger: Ledger, conn: Connection):
    assert handle(ledger, cart(Line("A", 12), Line("B", 3))) == [False]
    assert handle(ledger, cart(Line("A", 11), Line("B", 5))) == [False]

    assert counted(conn) == {"A": (2, 23, 3), "B": (1, 5, 2)}


def test_refusals_of_one_transaction_are_counted_together(ledger: Ledger, conn: Connection):
    carts = [cart(Line("B", 2)) for _ in range(3)]
    assert handle(ledger, *carts, AddStock(sku="A", quantity=1)) == [True, False, False, True]

    assert counted(conn) == {"B": (2, 4, 2)}


def test_a_partial_cart_counts_what_it_missed(ledger: Ledger, conn: Connection):
    assert handle(ledger, cart(Line("A", 4), Line("B", 5), partial=True)) == [True]
    assert handle(ledger, cart(Line("B", 2), partial=True)) == [False]

    assert counted(conn) == {"B": (2, 7, 4)}


def test_an_item_that_another_holds_or_has_is_counted_by_either_door(ledger: Ledger, conn: Connection):
    assert handle(ledger, item(), item(), cart(Line("C", 1, "1"))) == [True, False, False]

    assert counted(conn) == {"C": (2, 2, 2)}


def test_what_all_or_nothing_refused_is_counted_once_and_what_it_gave_up_is_not(ledger: Ledger, conn: Connection):
    partial = cart(Line("B", 5), partial=True)
    assert handle(ledger, partial, cart(Line("A", 11)), cart(Line("A", 1)), atomic=True) == [False, False, False]

    assert counted(conn) == {"A": (1, 11, 1)}


def test_stock_that_cannot_be_removed_is_no_demand(ledger: Ledger, conn: Connection):
    with pytest.raises(InsufficientStockError):
        ledger.handle(RemoveStock(sku="A", quantity=11))

    assert counted(conn) == {}


def test_a_replayed_answer_is_not_counted_again_and_a_repeated_refusal_is(ledger: Ledger, conn: Connection):
    partial = cart(Line("B", 5), partial=True, key=Key("one", b"h" * 32))
    refused = cart(Line("A", 11), key=Key("two", b"h" * 32))
    assert handle(ledger, partial) == handle(ledger, partial) == [True]
    assert handle(ledger, refused) == handle(ledger, refused) == [False]

    assert counted(conn) == {"A": (2, 22, 2), "B": (1, 5, 2)}


def test_the_largest_quantities_can_be_counted_more_than_once(ledger: Ledger, conn: Connection):
    most = 2**53 - 1
    assert handle(ledger, *[cart(Line("A", most))] * 2_000) == [False] * 2_000
    assert handle(ledger, cart(Line("A", most))) == [False]

    row = conn.execute("SELECT requests, requested, short FROM shortages_daily").fetchone()
    assert row == (2_001, 2_001 * most, 2_001 * (most - 10))


def test_a_refusal_leaves_nothing_else_behind(ledger: Ledger, conn: Connection):
    before = conn.execute("SELECT * FROM stored_events").fetchall()

    assert handle(ledger, cart(Line("A", 11), key=Key("one", b"h" * 32))) == [False]

    assert conn.execute("SELECT * FROM stored_events").fetchall() == before
    assert conn.execute("SELECT * FROM idempotency_keys").fetchall() == []
