"""The inline read models: what a history makes of each table, and that the log alone makes the same of it again."""

import threading
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import asdict
from psycopg.rows import dict_row

from ledger.catalogue.commands import ProductChanges
from ledger.catalogue.products import PRODUCTS
from ledger.engine.committer import DefectError
from ledger.engine.ledger import Ledger
from ledger.events import EVENTS
from ledger.facts import Entry, Event
from ledger.items.commands import ItemChanges, PutItem
from ledger.items.items import ITEMS
from ledger.reservations.commands import (
    ExpireReservation,
    ExtendReservation,
    Line,
    MakeReservation,
    PurchaseReservation,
    ReleaseItem,
    ReleaseReservation,
    ReserveItem,
    ReturnPurchase,
)
from ledger.reservations.reservations import RESERVATIONS
from ledger.rooms import ROOMS
from ledger.stock.commands import AddStock, PutFungible, RemoveStock
from ledger.stock.errors import InsufficientStockError
from ledger.stock.events import StockAdded
from ledger.stock.levels import STOCK, Stock
from ledger.store.connection import Connection, connect
from ledger.store.log import read
from ledger.streams import parse_stream
from ledger.unit_of_work import UnitOfWork
from projections.inline import TABLES
from projections.rebuilding import rebuild
from projections.rebuilding.rebuild import Rebuild
from projections.stock import stock_levels
from tests.ledger.given import BY, ID, NOW, OTHER_ID, PURCHASE_ID

THIRD_ID = UUID("00000000-0000-4000-8000-000000000003")
R = {"request_id": "r"}
MINUTE = timedelta(minutes=1)


def put_item(sn: str, **more) -> PutItem:
    return PutItem(sku="B", sn=sn, purchase_id=PURCHASE_ID, **R, **more)


def cart(reservation_id: UUID, *lines: Line, ttl_seconds: int = 60, **more) -> MakeReservation:
    return MakeReservation(reservation_id=reservation_id, lines=lines, ttl_seconds=ttl_seconds, **R, **more)


# Every class of event, every end of a reservation, and one reservation that is still open.
VARIED_HISTORY = [
    PutFungible(sku="A", changes=ProductChanges(name="Pencil"), amount_in_stock=10, **R),
    PutFungible(sku="A", changes=ProductChanges(color="Yellow", name=None), **R),
    RemoveStock(sku="A", quantity=1, **R),
    put_item("1", product=ProductChanges(description="Motorcycle"), item=ItemChanges(color="Red")),
    put_item("1", item=ItemChanges(notes="Scratched", color=None)),
    put_item("2"),
    cart(ID, Line("A", 3), Line("B", sn="1"), owner="ann", reference="cart 7", fingerprint="f"),
    ExtendReservation(reservation_id=ID, ttl_seconds=120, **R),
    ReleaseReservation(reservation_id=ID, lines=(Line("A", 1),), **R),
    PurchaseReservation(reservation_id=ID, purchase_id=PURCHASE_ID, **R),
    ReturnPurchase(reservation_id=ID, lines=(Line("A", 1), Line("B", sn="1")), **R),
    ReserveItem(sku="B", sn="2", reservation_id=OTHER_ID, ttl_seconds=0, **R),
    ExpireReservation(reservation_id=OTHER_ID, **R),
    ReserveItem(sku="B", sn="2", reservation_id=THIRD_ID, ttl_seconds=60, **R),
    ReleaseItem(sku="B", sn="2", **R),
    PutItem(sku="B", sn="2", purchase_id=OTHER_ID, sold=True, **R),
    cart(UUID(int=4), Line("A", 2), Line("B", sn="1"), ttl_seconds=3600),
    AddStock(sku="A", quantity=1, **R),
]


def given(ledger: Ledger, *commands) -> None:
    """Have commands carried out, each in a transaction of its own."""
    for command in commands:
        ledger.handle(command)


def times(conn: Connection) -> list[datetime]:
    return [entry.recorded_at for entry in read(conn, 0)]


def rows(conn: Connection, table: str) -> list[dict[str, Any]]:
    """A whole table, in order of its key."""
    return conn.cursor(row_factory=dict_row).execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()


def tables(conn: Connection) -> dict[str, list[dict[str, Any]]]:
    return {table: rows(conn, table) for table in TABLES}


def rebuilt(postgres_url: str, schema: str) -> dict[str, list[dict[str, Any]]]:
    """What a rebuild makes of all tables."""
    with Rebuild(postgres_url, schema) as new, connect(postgres_url, f"{schema}_rebuild") as scratch:
        new.catch_up()
        return tables(scratch)


# Each table


def product(sku: str, version: int, registered_at: datetime, updated_at: datetime, **members) -> dict[str, Any]:
    return {
        "sku": sku,
        "kind": "fungible",
        "name": None,
        "description": None,
        "color": None,
        "unit_price_cents": 0,
        "shipping_weight_grams": 0,
        "version": version,
        "registered_at": registered_at,
        "updated_at": updated_at,
        **members,
    }


def test_products_hold_what_each_sku_is(ledger: Ledger, conn: Connection):
    given(
        ledger,
        PutFungible(sku="A", changes=ProductChanges(name="Pencil", color="Red", unit_price_cents=300), **R),
        put_item("1", product=ProductChanges(description="Motorcycle", shipping_weight_grams=7)),
        PutFungible(sku="A", changes=ProductChanges(name=None, description="Wooden"), amount_in_stock=5, **R),
    )

    at = times(conn)
    assert rows(conn, "products") == [
        product("A", 2, at[0], at[3], description="Wooden", color="Red", unit_price_cents=300),
        product("B", 1, at[1], at[1], kind="non-fungible", description="Motorcycle", shipping_weight_grams=7),
    ]


def test_stock_levels_hold_what_is_on_hand_and_reserved(ledger: Ledger, conn: Connection):
    given(
        ledger,
        PutFungible(sku="A", amount_in_stock=10, **R),
        PutFungible(sku="C", **R),
        RemoveStock(sku="A", quantity=2, **R),
        cart(ID, Line("A", 3)),
        ReleaseReservation(reservation_id=ID, lines=(Line("A", 1),), **R),
    )

    at = times(conn)
    level = {"sku": "A", "on_hand": 8, "reserved": 2, "version": 4, "updated_at": at[5]}
    assert rows(conn, "stock_levels") == [level]  # C has never had any

    given(ledger, PurchaseReservation(reservation_id=ID, purchase_id=PURCHASE_ID, **R))

    level = {"sku": "A", "on_hand": 6, "reserved": 0, "version": 5, "updated_at": times(conn)[6]}
    assert rows(conn, "stock_levels") == [level]


def item(sn: str, version: int, updated_at: datetime, **members) -> dict[str, Any]:
    return {
        "sku": "B",
        "sn": sn,
        "color": None,
        "notes": None,
        "price_cents": 0,
        "sold": False,
        "version": version,
        "updated_at": updated_at,
        "reservation_id": None,
        "reserved_at": None,
        "reserved_until": None,
        "sold_under": None,
        **members,
    }


def test_items_hold_each_hold_and_sale(ledger: Ledger, conn: Connection):
    given(
        ledger,
        put_item("1", item=ItemChanges(color="Red", price_cents=5)),
        put_item("2", item=ItemChanges(notes="Scratched")),
        put_item("3"),
        put_item("4"),
        put_item("1", item=ItemChanges(color=None, notes="New")),
        ReserveItem(sku="B", sn="1", reservation_id=ID, ttl_seconds=60, **R),
        ReserveItem(sku="B", sn="1", reservation_id=ID, ttl_seconds=60, **R),
        ReserveItem(sku="B", sn="2", reservation_id=OTHER_ID, ttl_seconds=60, **R),
        put_item("2", sold=True),
        ReserveItem(sku="B", sn="3", reservation_id=THIRD_ID, ttl_seconds=60, **R),
        ReleaseItem(sku="B", sn="3", **R),
        ReserveItem(sku="B", sn="4", reservation_id=UUID(int=4), ttl_seconds=60, **R),
        PutItem(sku="B", sn="4", purchase_id=OTHER_ID, sold=True, **R),
        put_item("4", sold=False),
    )

    at = times(conn)
    hold = {"reservation_id": ID, "reserved_at": at[6], "reserved_until": at[7] + MINUTE}
    assert rows(conn, "items") == [
        item("1", 4, at[7], notes="New", price_cents=5, **hold),
        item("2", 3, at[9], notes="Scratched", sold=True, sold_under=OTHER_ID),
        item("3", 3, at[11]),
        item("4", 4, at[14]),
    ]


def reservation(reservation_id: UUID, position: int, state: str, at: datetime, **members) -> dict[str, Any]:
    return {
        "reservation_id": reservation_id,
        "position": position,
        "state": state,
        "owner": None,
        "reference": None,
        "created_at": at,
        "expires_at": at + MINUTE,
        "ended_at": None,
        "fingerprint": None,
        "remaining": 0,
        **members,
    }


def test_reservations_hold_how_each_ended(ledger: Ledger, conn: Connection):
    given(
        ledger,
        PutFungible(sku="A", amount_in_stock=10, **R),
        cart(UUID(int=1), Line("A", 4), owner="ann", reference="cart 7", fingerprint="f"),
        cart(UUID(int=2), Line("A", 1)),
        cart(UUID(int=3), Line("A", 1)),
        cart(UUID(int=4), Line("A", 1), ttl_seconds=0),
        ReleaseReservation(reservation_id=UUID(int=1), lines=(Line("A", 1),), **R),
        ReleaseReservation(reservation_id=UUID(int=2), **R),
        PurchaseReservation(reservation_id=UUID(int=3), purchase_id=PURCHASE_ID, **R),
        ExpireReservation(reservation_id=UUID(int=4), **R),
        ReturnPurchase(reservation_id=UUID(int=3), lines=(Line("A", 1),), **R),
    )

    at = times(conn)
    given_by_caller = {"owner": "ann", "reference": "cart 7", "fingerprint": "f"}
    assert rows(conn, "reservations") == [
        reservation(UUID(int=1), 3, "open", at[2], remaining=3, **given_by_caller),
        reservation(UUID(int=2), 4, "released", at[3], ended_at=at[7]),
        reservation(UUID(int=3), 5, "purchased", at[4], ended_at=at[8]),
        reservation(UUID(int=4), 6, "expired", at[5], expires_at=at[5], ended_at=at[9]),
    ]


def test_reservation_lines_hold_what_became_of_each_line(ledger: Ledger, conn: Connection):
    given(
        ledger,
        PutFungible(sku="A", amount_in_stock=10, **R),
        put_item("1"),
        cart(ID, Line("A", 4), Line("B", sn="1")),
        ExtendReservation(reservation_id=ID, ttl_seconds=60, **R),
        ReleaseReservation(reservation_id=ID, lines=(Line("A", 1),), **R),
    )

    shared = {"reservation_id": ID, "position": 5, "expires_at": times(conn)[6] + MINUTE, "expired": 0}
    first = {**shared, "line": 0, "sku": "A", "sn": "", "quantity": 4}
    second = {**shared, "line": 1, "sku": "B", "sn": "1", "quantity": 1, "released": 0}
    assert rows(conn, "reservation_lines") == [
        {**first, "released": 1, "purchased": 0, "returned": 0, "remaining": 3},
        {**second, "purchased": 0, "returned": 0, "remaining": 1},
    ]

    given(
        ledger,
        PurchaseReservation(reservation_id=ID, purchase_id=PURCHASE_ID, **R),
        ReturnPurchase(reservation_id=ID, lines=(Line("A", 2),), **R),
    )

    assert rows(conn, "reservation_lines") == [
        {**first, "released": 1, "purchased": 3, "returned": 2, "remaining": 0},
        {**second, "purchased": 1, "returned": 0, "remaining": 0},
    ]


def test_fulfilment_requests_hold_each_purchase_once(ledger: Ledger, conn: Connection):
    given(
        ledger,
        PutFungible(sku="A", amount_in_stock=10, **R),
        put_item("1"),
        put_item("2"),
        cart(ID, Line("A", 4), Line("B", sn="1"), owner="ann", reference="cart 7"),
        PurchaseReservation(reservation_id=ID, purchase_id=PURCHASE_ID, **R),
        PutItem(sku="B", sn="2", purchase_id=OTHER_ID, sold=True, **R),
    )

    at = times(conn)
    bought = {"purchase_id": PURCHASE_ID, "position": 8, "requested_at": at[7], "reservation_id": ID}
    sold = {"purchase_id": OTHER_ID, "position": 10, "requested_at": at[9], "reservation_id": None}
    assert rows(conn, "fulfilment_requests") == [
        {**sold, "owner": None, "reference": None, "lines": [{"sku": "B", "sn": "2"}]},
        {
            **bought,
            "owner": "ann",
            "reference": "cart 7",
            "lines": [{"sku": "A", "quantity": 4}, {"sku": "B", "sn": "1"}],
        },
    ]


def test_a_refused_command_leaves_every_table_as_it_was(ledger: Ledger, conn: Connection):
    given(ledger, *VARIED_HISTORY)
    before = tables(conn)

    with pytest.raises(InsufficientStockError):
        ledger.handle(RemoveStock(sku="A", quantity=100))

    assert tables(conn) == before


def test_the_log_keeps_nothing_that_the_read_models_did_not_take(
    ledger: Ledger, conn: Connection, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise RuntimeError("the read model has a defect")

    with monkeypatch.context() as broken:
        broken.setattr(stock_levels.MODEL, "write", fail)
        with pytest.raises(DefectError):
            ledger.handle(PutFungible(sku="A", amount_in_stock=5, **R))

    assert (read(conn, 0), tables(conn)) == ([], {table: [] for table in TABLES})
    assert ledger.handle(PutFungible(sku="A", amount_in_stock=5, **R)).position == 2


# The fold


def folded(entries: list[Entry]) -> UnitOfWork:
    """A unit of work that holds what the entries make of nothing."""
    work = UnitOfWork(NOW, 0, ROOMS.states)
    for entry in entries:
        _, sku, sn = parse_stream(entry.stream)
        work[PRODUCTS].setdefault(sku, None)
        work[STOCK].setdefault(sku, Stock(sku))
        if sn:
            work[ITEMS].setdefault((sku, sn), None)
        work.apply(entry)
    return work


def test_every_class_of_event_is_handled_by_the_fold(ledger: Ledger, conn: Connection):
    given(ledger, *VARIED_HISTORY)

    entries = read(conn, 0)

    assert {type(entry.event) for entry in entries} == set(EVENTS.values())
    for number, entry in enumerate(entries, 1):
        work = folded(entries[:number])
        family, sku, sn = parse_stream(entry.stream)
        state = {"product": work[PRODUCTS].get(sku), "stock": work[STOCK][sku], "item": work[ITEMS].get((sku, sn))}[
            family
        ]
        assert (state.version, state.updated_at) == (entry.version, entry.recorded_at)
        assert work.position == entry.position


def test_the_fold_of_the_log_is_what_the_tables_hold(ledger: Ledger, conn: Connection):
    given(ledger, *VARIED_HISTORY)

    work = folded(read(conn, 0))

    states = {
        "products": [asdict(state) for _, state in sorted(work[PRODUCTS].items())],
        "stock_levels": [asdict(level) for _, level in sorted(work[STOCK].items()) if level.version],
        "items": [asdict(state) for _, state in sorted(work[ITEMS].items())],
        "reservations": [asdict(state) for _, state in sorted(work[RESERVATIONS].items())],
    }
    for state in states["reservations"]:
        del state["lines"]  # in a table of their own
    assert {table: rows(conn, table) for table in states} == states


@pytest.mark.parametrize("stream", ["product/A", "stock/main/A", "item/B/1"])
def test_an_event_that_a_stream_does_not_know_is_an_error(stream: str):
    class SomethingElse(Event, frozen=True, kw_only=True):
        pass

    work = folded([])
    work[PRODUCTS]["A"], work[STOCK]["A"], work[ITEMS]["B", "1"] = None, Stock("A"), None

    with pytest.raises(TypeError, match="SomethingElse"):
        work.apply(Entry(1, NOW, stream, 1, SomethingElse(**BY)))


def test_an_event_whose_stream_was_not_loaded_is_an_error():
    with pytest.raises(KeyError):
        UnitOfWork(NOW, 0, ROOMS.states).apply(
            Entry(1, NOW, "stock/main/A", 1, StockAdded(quantity=1, on_hand=1, reserved=0, **BY))
        )


# The rebuild


def test_rebuilt_equals_live(ledger: Ledger, conn: Connection, postgres_url: str, schema: str):
    given(ledger, *VARIED_HISTORY)

    with Rebuild(postgres_url, schema) as new:
        assert new.catch_up() == new.position == len(read(conn, 0))
        assert new.differences() == {}

    live = tables(conn)
    assert rebuilt(postgres_url, schema) == live
    assert all(live.values())  # each table has had something to compare


def test_rebuilding_twice_gives_the_same(ledger: Ledger, postgres_url: str, schema: str):
    given(ledger, *VARIED_HISTORY)

    assert rebuilt(postgres_url, schema) == rebuilt(postgres_url, schema)


def test_small_chunks_give_the_same_as_one_big_chunk(
    ledger: Ledger, postgres_url: str, schema: str, monkeypatch: pytest.MonkeyPatch
):
    given(ledger, *VARIED_HISTORY)
    whole = rebuilt(postgres_url, schema)

    for entries in (1, 2, 3):
        monkeypatch.setattr(rebuild, "CHUNK_ENTRIES", entries)

        assert rebuilt(postgres_url, schema) == whole


def test_the_rebuild_of_an_empty_log_is_empty(conn: Connection, postgres_url: str, schema: str):
    with Rebuild(postgres_url, schema) as new:
        assert (new.catch_up(), new.differences()) == (0, {})


def test_a_rebuild_finds_every_row_that_was_tampered_with(
    ledger: Ledger, conn: Connection, postgres_url: str, schema: str
):
    given(ledger, *VARIED_HISTORY)
    tampering = {
        "products": ("UPDATE products SET color = 'Red' WHERE sku = 'A'", 1),
        "stock_levels": ("INSERT INTO stock_levels VALUES ('Z', 1, 0, 1, now())", 1),
        "items": ("DELETE FROM items WHERE sn = '2'", 1),
        "reservations": ("UPDATE reservations SET expires_at = expires_at + interval '1 second'", 4),
        "reservation_lines": ("UPDATE reservation_lines SET returned = returned + 1 WHERE line = 1", 2),
        "fulfilment_requests": ("UPDATE fulfilment_requests SET lines = '[]'", 2),
    }
    found = {}

    with Rebuild(postgres_url, schema) as new:
        for table, (statement, differences) in tampering.items():
            conn.execute(statement)
            found[table] = differences
            assert new.differences() == found

    assert set(found) == set(TABLES)


def test_a_rebuild_takes_in_what_is_written_meanwhile(ledger: Ledger, postgres_url: str, schema: str):
    """Two writers go on while the comparison is made again and again; it must never see one table ahead."""
    given(ledger, *VARIED_HISTORY)
    done = threading.Event()

    def write(turn: int = 0) -> None:
        while not done.is_set():
            reservation_id = UUID(int=turn + 1000 * threading.get_ident())
            given(ledger, AddStock(sku="A", quantity=1), cart(reservation_id, Line("A", 1)))
            turn += 1

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        with Rebuild(postgres_url, schema) as new:
            positions = [new.catch_up()]
            for _ in range(5):
                assert new.differences() == {}
                positions.append(new.position)
    finally:
        done.set()
        for writer in writers:
            writer.join()

    assert positions == sorted(positions)
    assert positions[-1] > positions[0]


def test_a_rebuild_leaves_nothing_behind_and_clears_what_another_left(
    ledger: Ledger, conn: Connection, postgres_url: str, schema: str
):
    given(ledger, *VARIED_HISTORY)
    conn.execute(f"CREATE SCHEMA {schema}_rebuild CREATE TABLE products (x int)")

    with pytest.raises(ZeroDivisionError), Rebuild(postgres_url, schema) as new:
        assert new.differences() == {}
        raise ZeroDivisionError

    left = conn.execute("SELECT nspname FROM pg_namespace WHERE nspname = %s", [f"{schema}_rebuild"]).fetchall()
    assert left == []
