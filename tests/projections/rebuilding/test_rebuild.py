"""Rebuilding while the service goes on: what takes the live tables' place, who notices, and what can be in the way."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from falcon import testing
from psycopg import sql

from api.cli import main
from ledger.catalogue.commands import ProductChanges
from ledger.catalogue.events import ProductRegistered
from ledger.engine.ledger import Ledger
from ledger.items.commands import ItemChanges, PutItem
from ledger.reservations.commands import Line, MakeReservation, PurchaseReservation
from ledger.stock.commands import AddStock, PutFungible
from ledger.stock.events import StockAdded
from ledger.store.connection import Connection, lock_key
from projections.following.projection_runner import MODELS, Follower, lags
from projections.inline import TABLES
from projections.rebuilding import fold, rebuild
from projections.rebuilding.groups import fold_following
from projections.rebuilding.rebuild import NAMES, Rebuild, RebuildError
from tests.ledger.given import BY, NOW
from tests.projections.history import record, record_nonsense
from tests.projections.test_read_models import VARIED_HISTORY, R, given, tables

ALL_TABLES = (*TABLES, *(table for model in MODELS for table in model.tables))

# All that a table is besides its rows and its number.
_DESCRIBED = """
SELECT 'table', c.relname, c.reloptions::text, concat(c.relowner, c.relpersistence),
    (SELECT string_agg(acl::text, ' ' ORDER BY acl::text) FROM unnest(c.relacl) AS acl), obj_description(c.oid)
FROM pg_class AS c WHERE c.relnamespace = %(schema)s::text::regnamespace AND c.relkind = 'r'
UNION ALL
SELECT 'column', c.relname, a.attname, concat(a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull),
    concat(a.attcollation, a.attacl, pg_get_expr(d.adbin, d.adrelid)),
    col_description(c.oid, a.attnum)
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = %(schema)s::text::regnamespace AND c.relkind = 'r'
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), contype::text, NULL
FROM pg_constraint WHERE connamespace = %(schema)s::text::regnamespace
UNION ALL
SELECT 'index', tablename, indexname, indexdef, NULL, NULL FROM pg_indexes WHERE schemaname = %(schema)s::text
ORDER BY 1, 2, 3, 4
"""


@pytest.fixture(autouse=True)
def no_patience_with_the_follower(monkeypatch: pytest.MonkeyPatch) -> None:
    """In most tests none runs."""
    monkeypatch.setattr(rebuild, "FOLLOWER_SECONDS", 0.5)


def described(conn: Connection, schema: str) -> list[tuple[Any, ...]]:
    return conn.execute(_DESCRIBED, {"schema": schema}).fetchall()


def numbers(conn: Connection) -> set[int]:
    return {conn.execute(f"SELECT '{table}'::regclass::oid::int").fetchone()[0] for table in ALL_TABLES}


def follow(url: str, schema: str) -> None:
    follower = Follower(url, schema)
    while follower.step() == 0:
        pass
    follower.close()


def rebuild_all(url: str, schema: str) -> rebuild.Compared:
    with Rebuild(url, schema, NAMES) as new:
        compared = new.compare()
        new.swap()
    return compared


@contextmanager
def working(*jobs: Callable[[int], Any]) -> Iterator[list[int]]:
    """Do each job again and again in a thread of its own; how often. Raises what one of them raised."""
    done = threading.Event()
    turns, failures = [0] * len(jobs), []

    def work(number: int) -> None:
        try:
            while not done.is_set():
                jobs[number](turns[number])
                turns[number] += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=[number]) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    try:
        yield turns
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []


# What takes the place


def test_the_new_tables_are_like_the_old_ones_in_everything_but_their_number(
    ledger: Ledger, conn: Connection, postgres_url: str, schema: str
):
    given(ledger, *VARIED_HISTORY)
    follow(postgres_url, schema)
    conn.execute(sql.SQL("GRANT SELECT (sku) ON items TO {}").format(sql.Identifier(f"{schema}_reporting")))
    before, rows, old = described(conn, schema), tables(conn), numbers(conn)

    compared = rebuild_all(postgres_url, schema)

    assert (compared.different, compared.behind) == ({}, [])
    assert described(conn, schema) == before
    assert tables(conn) == rows
    assert not numbers(conn) & old
    left = conn.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE %s", [f"{schema}\\_rebuild%"]).fetchall()
    assert left == []


def test_views_show_the_new_tables_and_stay_what_they_were(
    ledger: Ledger, conn: Connection, postgres_url: str, schema: str
):
    given(ledger, *VARIED_HISTORY)
    reader = sql.Identifier(f"{schema}_reporting")
    joined = "SELECT s.*, p.name FROM stock_levels AS s JOIN products AS p USING (sku)"
    conn.execute(f"CREATE VIEW {schema}.levels WITH (security_barrier=true) AS {joined}")
    conn.execute(f"CREATE VIEW {schema}.total AS SELECT sum(on_hand) AS on_hand FROM {schema}.levels")
    conn.execute(f"COMMENT ON VIEW {schema}.levels IS 'what there is'")
    conn.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(sql.Identifier(schema, "levels"), reader))
    shown = conn.execute("SELECT * FROM levels").fetchall()
    described_view = """
        SELECT obj_description(oid), relacl::text, reloptions, pg_get_viewdef(oid)
        FROM pg_class WHERE oid = 'levels'::regclass
    """
    before = conn.execute(described_view).fetchall()
    conn.execute("UPDATE stock_levels SET on_hand = on_hand + 1000")

    compared = rebuild_all(postgres_url, schema)

    assert list(compared.different) == ["stock_levels"]
    assert conn.execute("SELECT * FROM levels").fetchall() == shown
    assert conn.execute("SELECT on_hand FROM total").fetchone()[0] == shown[0][1]
    assert conn.execute(described_view).fetchall() == before


def test_a_swap_mends_what_differed(ledger: Ledger, conn: Connection, postgres_url: str, schema: str):
    given(ledger, *VARIED_HISTORY)
    follow(postgres_url, schema)
    before = tables(conn)
    conn.execute("DELETE FROM reservation_lines")
    conn.execute("UPDATE movements_daily SET added = added + 1 WHERE sku = 'A'")

    compared = rebuild_all(postgres_url, schema)

    assert {table: different.rows for table, different in compared.different.items()} == {
        "reservation_lines": len(before["reservation_lines"]),
        "movements_daily": 1,
    }
    assert [key[-2:] for key in compared.different["movements_daily"].keys] == ["/A"]
    assert rebuild_all(postgres_url, schema).different == {}
    assert tables(conn) == before


def test_only_what_is_named_is_replaced(ledger: Ledger, conn: Connection, postgres_url: str, schema: str):
    given(ledger, *VARIED_HISTORY)
    conn.execute("UPDATE products SET color = 'Wrong'")
    conn.execute("UPDATE fulfilment_requests SET reference = 'Wrong'")

    with Rebuild(postgres_url, schema, ["fulfilment_requests"]) as new:
        assert list(new.differences()) == ["fulfilment_requests"]
        new.swap()

    assert conn.execute("SELECT DISTINCT color FROM products").fetchall() == [("Wrong",)]
    assert conn.execute("SELECT DISTINCT reference FROM fulfilment_requests").fetchall() != [("Wrong",)]


def test_a_following_model_that_was_stopped_goes_on_from_its_rebuilt_rows(
    ledger: Ledger, conn: Connection, postgres_url: str, schema: str
):
    given(ledger, *VARIED_HISTORY)
    follow(postgres_url, schema)
    conn.execute("UPDATE following SET failed_position = position + 1, error = 'x', failed_at = now()")
    conn.execute("DELETE FROM valued_products")
    given(ledger, AddStock(sku="A", quantity=1, **R))

    with Rebuild(postgres_url, schema, ["valuations_daily"]) as new:
        new.swap()

    stopped = {lag.name: (lag.events, lag.failed_position) for lag in lags(conn)}
    assert stopped["valuations_daily"] == (0, None)
    assert stopped["movements_daily"][1] is not None
    given(ledger, AddStock(sku="A", quantity=1, **R))
    follow(postgres_url, schema)
    assert [lag.events for lag in lags(conn)] == [0, 0]
    with Rebuild(postgres_url, schema, NAMES) as new:
        assert new.differences() == {}


@pytest.mark.parametrize("entries", [1, 2, 7])
def test_memory_too_small_for_anything_makes_the_same(
    ledger: Ledger, postgres_url: str, schema: str, monkeypatch: pytest.MonkeyPatch, entries: int
):
    given(ledger, *VARIED_HISTORY)
    monkeypatch.setattr(fold, "MAX_KEPT", 0)
    monkeypatch.setattr(rebuild, "CHUNK_ENTRIES", entries)

    with Rebuild(postgres_url, schema) as new:
        assert new.differences() == {}


def test_texts_of_every_kind_are_the_same_after_a_rebuild(
    ledger: Ledger, conn: Connection, postgres_url: str, schema: str
):
    texts = ['"', "\\", '\\"', "a]\n[b", "\t\r\n", "\\n", "null", "", "\\.", "\x01", "ä, €"]
    carts = [
        MakeReservation(
            reservation_id=uuid4(), lines=(Line("A", 1),), ttl_seconds=60, owner=text, reference=text[::-1], **R
        )
        for text in texts
    ]
    given(ledger, PutFungible(sku="A", changes=ProductChanges(name="\\", color='"'), amount_in_stock=99, **R), *carts)
    for number, text in enumerate(texts):
        item = ItemChanges(notes=text)
        given(ledger, PutItem(sku=f"B{number}", sn="1", purchase_id=uuid4(), item=item, **R))
        with Rebuild(postgres_url, schema) as new:
            assert new.differences() == {}


def test_models_folded_by_a_process_of_their_own_are_the_same(
    ledger: Ledger, conn: Connection, postgres_url: str, schema: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rebuild, "BESIDE_ENTRIES", 0)
    given(ledger, *VARIED_HISTORY)
    follow(postgres_url, schema)

    with Rebuild(postgres_url, schema, NAMES) as new:
        assert new.catch_up() == new.position
        given(ledger, AddStock(sku="A", quantity=1, **R))
        follow(postgres_url, schema)
        compared = new.compare()

    assert (compared.different, compared.behind) == ({}, [])


# Who notices


def test_nobody_notices_a_rebuild_under_load(
    client: testing.TestClient, ledger: Ledger, conn: Connection, postgres_url: str, service_url: str, schema: str
):
    """Writers, readers and the follower go on through three swaps; none fails, and none sees half a table."""
    given(ledger, *VARIED_HISTORY)

    def trade(_turn: int) -> None:
        cart = uuid4()
        line = Line("A", 1)
        given(
            ledger,
            AddStock(sku="A", quantity=1, **R),
            MakeReservation(reservation_id=cart, lines=(line,), ttl_seconds=60, **R),
            PurchaseReservation(reservation_id=cart, purchase_id=uuid4(), **R),
        )

    def look(_turn: int) -> None:
        product = client.simulate_get("/api/fungible/A")
        assert (product.status_code, product.json["amount_in_stock"] >= 5) == (200, True)

    def list_carts(_turn: int) -> None:
        carts = client.simulate_get("/api/reservations?limit=2")
        assert carts.status_code == 200
        assert [len(cart["lines"]) for cart in carts.json["items"]] == [2, 1]

    follower = Follower(service_url, schema)
    with closing(follower), working(trade, trade, look, list_carts, lambda _: follower.step()) as turns:
        compared = [rebuild_all(postgres_url, schema) for _ in range(3)]
        seen = list(turns)
    follow(postgres_url, schema)

    assert [(c.different, c.behind) for c in compared] == [({}, [])] * 3
    assert all(seen)
    with Rebuild(postgres_url, schema, NAMES) as new:
        assert new.differences() == {}


# What can be in the way


def test_two_rebuilds_do_not_meet(postgres_url: str, schema: str):
    with (
        Rebuild(postgres_url, schema),
        pytest.raises(RebuildError, match="another rebuild"),
        Rebuild(postgres_url, schema),
    ):
        pass


def test_what_a_killed_rebuild_left_is_cleared(ledger: Ledger, conn: Connection, postgres_url: str, schema: str):
    given(ledger, *VARIED_HISTORY)
    killed = Rebuild(postgres_url, schema, NAMES)
    killed.__enter__()
    killed.catch_up()
    killed._conn.close()
    conn.execute(f"CREATE TABLE {schema}_rebuild_old.products (x int)")

    assert rebuild_all(postgres_url, schema).different == {}


def test_what_goes_wrong_in_the_process_beside_is_told(
    conn: Connection, postgres_url: str, schema: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rebuild, "BESIDE_ENTRIES", 0)
    registered = ProductRegistered(kind="fungible", **BY)
    record(
        conn,
        [(NOW, "product/A", registered), (NOW, "stock/main/B", StockAdded(quantity=1, on_hand=1, reserved=0, **BY))],
    )

    with (
        Rebuild(postgres_url, schema, NAMES) as new,
        pytest.raises(RebuildError, match="valuations_daily cannot apply an event at one of the positions 1 to 2"),
    ):
        new.catch_up()


def test_the_process_beside_writes_nothing_for_a_rebuild_that_is_over(
    ledger: Ledger, conn: Connection, postgres_url: str, schema: str
):
    given(ledger, *VARIED_HISTORY)
    path = f"{schema}_rebuild,{schema}"
    with Rebuild(postgres_url, schema, NAMES) as new:
        arguments = (["movements_daily"], 0, 1)
        with pytest.raises(RebuildError, match="has ended"):
            fold_following(postgres_url, schema, path, conn.info.backend_pid, *arguments)
        assert conn.execute(f"SELECT count(*) FROM {schema}_rebuild.movements_daily").fetchone() == (0,)

        fold_following(postgres_url, schema, path, new._conn.info.backend_pid, *arguments)
        assert conn.execute(f"SELECT count(*) FROM {schema}_rebuild.movements_daily").fetchone() == (1,)


def test_a_rebuild_waits_for_what_ran_beside_one_that_was_killed(conn: Connection, postgres_url: str, schema: str):
    conn.execute("SELECT pg_advisory_lock(%s)", [lock_key(schema, "rebuild beside")])

    with pytest.raises(RebuildError, match="another rebuild"), Rebuild(postgres_url, schema):
        pass

    conn.execute("SELECT pg_advisory_unlock_all()")
    assert rebuild_all(postgres_url, schema).different == {}


@pytest.mark.parametrize(
    "statement", ["SELECT 1 FROM stock_levels", "SELECT 1 FROM stored_events LIMIT 1"], ids=["of a table", "of another"]
)
def test_a_long_reader_puts_the_swap_off_and_nobody_else(
    ledger: Ledger, conn: Connection, postgres_url: str, schema: str, monkeypatch: pytest.MonkeyPatch, statement: str
):
    """One that has read a live table holds its lock; to one that has not yet, the new rows would not exist."""
    monkeypatch.setattr(rebuild, "ATTEMPTS", 2)
    monkeypatch.setattr(rebuild, "REST_SECONDS", 0.0)
    given(ledger, *VARIED_HISTORY)
    old = numbers(conn)

    with psycopg.connect(postgres_url, options=f"-c search_path={schema}") as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute(statement)
        with Rebuild(postgres_url, schema) as new, pytest.raises(RebuildError, match="long transaction"):
            new.swap()
        given(ledger, AddStock(sku="A", quantity=1, **R))
        assert numbers(conn) == old

    assert rebuild_all(postgres_url, schema).different == {}
    assert not numbers(conn) & old


def test_an_event_that_cannot_be_applied_leaves_everything_as_it_was(
    ledger: Ledger, conn: Connection, postgres_url: str, schema: str, capsys: pytest.CaptureFixture[str]
):
    given(ledger, *VARIED_HISTORY)
    record_nonsense(conn, NOW)
    before, old = tables(conn), numbers(conn)

    assert main(["rebuild", "--database-url", postgres_url, "--schema", schema]) == 1

    assert "Nonsense.v1" in capsys.readouterr().err
    assert (tables(conn), numbers(conn)) == (before, old)


# The command


def test_the_command_tells_what_differed_and_mends_it(
    ledger: Ledger, conn: Connection, postgres_url: str, schema: str, capsys: pytest.CaptureFixture[str]
):
    given(ledger, *VARIED_HISTORY)
    follow(postgres_url, schema)
    before = tables(conn)
    conn.execute("UPDATE products SET color = 'Wrong' WHERE sku = 'A'")
    arguments = ["rebuild", "--database-url", postgres_url, "--schema", schema]

    assert main([*arguments, "--check"]) == 1
    assert "different       products: 1 rows: A\n" in capsys.readouterr().out
    assert tables(conn) != before
    assert main([*arguments, "products"]) == 1
    assert tables(conn) == before
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "live equals rebuilt" in out
    assert "not compared" not in out


def test_a_name_that_is_none_is_refused(postgres_url: str, schema: str, capsys: pytest.CaptureFixture[str]):
    assert main(["rebuild", "nonsense", "--database-url", postgres_url, "--schema", schema]) == 2
    assert "nonsense" in capsys.readouterr().err
