"""The SQL schema for reporting jobs: what its views say, who may read them, and that they explain themselves."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from ledger.catalogue.commands import ProductChanges
from ledger.engine.ledger import Ledger
from ledger.items.commands import ItemChanges, PutItem
from ledger.reservations.commands import Line, MakeReservation, PurchaseReservation
from ledger.stock.commands import PutFungible
from ledger.stock.errors import InsufficientStockError
from ledger.store.connection import Connection
from ledger.store.migrate import migrate
from ledger.store.roles import reporting_role, reporting_schema
from projections.following.projection_runner import Follower
from projections.reporting import queries

_ALL = """
SELECT c.relname, a.attname, col_description(c.oid, a.attnum), obj_description(c.oid, 'pg_class')
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = %s::regnamespace ORDER BY c.relname, a.attnum
"""


@pytest.fixture(autouse=True)
def views(postgres_url: str, schema: str) -> None:
    """As the service makes them at its start."""
    migrate(postgres_url, schema, queries.ensure)


@pytest.fixture
def job(postgres_url: str, schema: str, conn: Connection) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """A session that has logged in as the reporting role and named no schema."""
    role = sql.Identifier(reporting_role(schema))
    conn.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD 'x'").format(role))
    url = make_conninfo(postgres_url, user=reporting_role(schema), password="x")
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as opened:
        yield opened


@pytest.fixture
def traded(ledger: Ledger, service_url: str, schema: str) -> None:
    """Ten of A at 3.00, of which two were bought and one is held; an item of B; demand for 20 more of A."""
    ledger.handle(PutFungible(sku="A", changes=ProductChanges(unit_price_cents=300), amount_in_stock=10))
    ledger.handle(PutItem(sku="B", sn="1", item=ItemChanges(price_cents=5), purchase_id=uuid4()))
    bought = uuid4()
    ledger.handle(MakeReservation(reservation_id=bought, lines=(Line("A", 2),), ttl_seconds=60, owner="ann"))
    ledger.handle(PurchaseReservation(reservation_id=bought, purchase_id=uuid4()))
    ledger.handle(MakeReservation(reservation_id=uuid4(), lines=(Line("A", 1), Line("B", 1, "1")), ttl_seconds=60))
    with pytest.raises(InsufficientStockError):
        ledger.handle(MakeReservation(reservation_id=uuid4(), lines=(Line("A", 20),), ttl_seconds=60))
    follower = Follower(service_url, schema)
    while follower.step() == 0:
        pass
    follower.close()


def all_of(job: psycopg.Connection[dict[str, Any]], view: str) -> list[dict[str, Any]]:
    return job.execute(f"SELECT * FROM {view} ORDER BY 1, 2").fetchall()


@pytest.mark.usefixtures("traded")
def test_the_views_say_what_the_ledger_says(job: psycopg.Connection[dict[str, Any]]):
    fungible, item = all_of(job, "stock")
    assert fungible == {
        "sku": "A",
        "name": None,
        "kind": "fungible",
        "amount_in_stock": 8,
        "reserved_quantity": 1,
        "available_quantity": 7,
        "unit_price_cents": 300,
        "value_cents": 2400,
    }
    assert (item["amount_in_stock"], item["available_quantity"], item["value_cents"]) == (1, 0, 5)
    assert [row["sku"] for row in all_of(job, "products")] == ["A", "B"]
    (held,) = all_of(job, "items")
    assert (held["sn"], held["sold"], held["reserved_until"] > datetime.now(UTC)) == ("1", False, True)
    assert {(row["state"], row["owner"]) for row in all_of(job, "reservations")} == {
        ("purchased", "ann"),
        ("open", None),
    }
    assert sum(row["remaining"] for row in all_of(job, "reservation_lines")) == 2
    (request,) = all_of(job, "fulfilment_requests")
    assert request["lines"] == [{"sku": "A", "quantity": 2}]
    moved = {row["sku"]: (row["added"], row["reserved"], row["purchased"]) for row in all_of(job, "movements_daily")}
    assert moved == {"A": (10, 3, 2), "B": (1, 1, 0)}
    worth = {row["sku"]: (row["value_cents"], row["reserved_value_cents"]) for row in all_of(job, "valuations_daily")}
    assert worth == {"A": (2400, 300), "B": (5, 5)}
    (short,) = all_of(job, "shortages_daily")
    assert (short["requests"], short["requested"], short["short"]) == (1, 20, 13)
    events = all_of(job, "events")
    assert [event["position"] for event in events] == list(range(1, len(events) + 1))
    assert events[1]["data"]["on_hand"] == 10
    assert {(row["position"], row["events_behind"]) for row in all_of(job, "following")} == {(len(events), 0)}


@pytest.mark.usefixtures("traded")
def test_what_is_over_by_the_clock_is_over_in_the_views(job: psycopg.Connection[dict[str, Any]], conn: Connection):
    past = datetime.now(UTC) - timedelta(seconds=1)
    for table in ("reservations", "reservation_lines"):
        conn.execute(f"UPDATE {table} SET expires_at = %s", [past])
    conn.execute("UPDATE items SET reserved_until = %s", [past])

    assert [row["reserved_quantity"] for row in all_of(job, "stock")] == [0, 0]
    assert {row["state"] for row in all_of(job, "reservations")} == {"purchased", "expired"}
    assert all_of(job, "items")[0]["reservation_id"] is None


def test_every_view_and_every_column_is_explained(conn: Connection, schema: str):
    rows = conn.execute(_ALL, [reporting_schema(schema)]).fetchall()

    assert {(view, column) for view, column, *_ in rows} == {(v.name, c) for v in queries.VIEWS for c in v.columns}
    assert [row for row in rows if not (row[2] and row[3])] == []


def test_the_reporting_role_reads_the_views_and_nothing_else(
    job: psycopg.Connection[dict[str, Any]], conn: Connection, schema: str
):
    tables = [row[0] for row in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema])]

    for view in queries.VIEWS:
        job.execute(f"SELECT * FROM {view.name}")
    assert len(tables) > 10
    for table in tables:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            job.execute(sql.SQL("SELECT 1 FROM {}").format(sql.Identifier(schema, table)))
    readable = """
        SELECT 1 FROM pg_class
        WHERE has_table_privilege(%s, oid, 'SELECT') AND relnamespace = %s::regnamespace AND relkind <> 'i'
    """
    assert conn.execute(readable, [reporting_role(schema), schema]).fetchall() == []


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM {}.events",
        "UPDATE {}.products SET name = 'x'",
        "INSERT INTO {}.shortages_daily VALUES (now(), 'A', 1)",
    ],
)
def test_the_reporting_role_writes_nothing_through_a_view(
    job: psycopg.Connection[dict[str, Any]], schema: str, statement: str
):
    query = sql.SQL(statement).format(sql.Identifier(reporting_schema(schema)))
    job.execute("SET default_transaction_read_only = off")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        job.execute(query)


def test_a_reporting_session_is_limited(job: psycopg.Connection[dict[str, Any]]):
    limits = {
        name: job.execute(f"SHOW {name}").fetchone()[name] for name in ("statement_timeout", "transaction_read_only")
    }

    assert limits == {"statement_timeout": "10min", "transaction_read_only": "on"}


def test_views_that_are_as_they_should_be_are_left_alone(conn: Connection, postgres_url: str, schema: str):
    """A long report must not keep a service from starting."""
    with conn.transaction():
        conn.execute(sql.SQL("SELECT 1 FROM {}").format(sql.Identifier(reporting_schema(schema), "stock")))
        assert migrate(postgres_url, schema, queries.ensure) == []


def test_views_of_another_version_are_made_anew(conn: Connection, postgres_url: str, schema: str, job):
    where = sql.Identifier(reporting_schema(schema))
    mark = queries._mark(schema)
    conn.execute(sql.SQL("DROP VIEW {}.stock, {}.events").format(where, where))
    conn.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(where, sql.Literal(mark[:-1] + "!")))

    migrate(postgres_url, schema, queries.ensure)

    assert all_of(job, "stock") == all_of(job, "events") == []


def test_views_follow_a_table_that_was_replaced(conn: Connection, schema: str, job):
    with conn.transaction():
        queries.drop(conn, schema)
        conn.execute("CREATE TABLE new (LIKE products INCLUDING ALL)")
        conn.execute("DROP TABLE products")
        conn.execute("ALTER TABLE new RENAME TO products")
        queries.define(conn, schema)

    assert all_of(job, "products") == []


def test_a_schema_that_is_somebody_elses_is_left_alone(
    conn: Connection, postgres_url: str, schema: str, caplog: pytest.LogCaptureFixture
):
    where = sql.Identifier(reporting_schema(schema))
    conn.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(where))
    conn.execute(sql.SQL("CREATE SCHEMA {0}; CREATE VIEW {0}.stock AS SELECT 1 AS theirs").format(where), prepare=False)

    migrate(postgres_url, schema, queries.ensure)

    assert conn.execute(sql.SQL("SELECT theirs FROM {}.stock").format(where)).fetchall() == [(1,)]
    assert "not this ledger's" in caplog.text
