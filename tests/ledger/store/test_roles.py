"""Who may do what: the log can be added to and never changed, and reports can be read and nothing else."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from ledger.engine.ledger import Ledger
from ledger.rooms import ROOMS
from ledger.stock.commands import PutFungible
from ledger.store import roles
from ledger.store.connection import Connection, connect
from ledger.store.migrate import MigrationError, migrate
from projections.inline import InlineReadModels
from tests.conftest import drop_ledger

DENIED = psycopg.errors.InsufficientPrivilege
# Names in a schema that one may not use are not even seen.
INVISIBLE = (DENIED, psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName)
REFUSED = psycopg.errors.RaiseException

ROW = "('stock/main/A', 1, 'StockAdded.v1', '{}', 1, '')"
INTO = "INTO stored_events (originator_id, originator_version, topic, state, notification_id, digest)"
CHANGES = {
    "update": "UPDATE stored_events SET state = '{}'",
    "delete": "DELETE FROM stored_events",
    "truncate": "TRUNCATE stored_events",
    "upsert": f"INSERT {INTO} VALUES {ROW} ON CONFLICT (notification_id) DO UPDATE SET state = excluded.state",
    "merge": "MERGE INTO stored_events AS e USING (VALUES (1)) AS v (p) ON e.notification_id = v.p"
    " WHEN MATCHED THEN DELETE",
}
OWNERS = {
    "drop": "DROP TABLE stored_events",
    "disable": "ALTER TABLE stored_events DISABLE TRIGGER stored_events_append_only",
    "replace": "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE sql AS 'SELECT 1'",
    "rename": "ALTER TABLE stored_events RENAME TO other",
    "create": "CREATE TABLE mine (a int)",
    "maintain": "SELECT allow_maintenance('because')",
    "switch off": "SET session_replication_role = replica",
    "forget": "DELETE FROM maintenance_log",
    "write": "INSERT INTO maintenance_log (operation, statement, reason) VALUES ('', '', '')",
    "lock": "LOCK TABLE stored_events IN EXCLUSIVE MODE",
}


def log(conn: Connection) -> list[tuple[object, ...]]:
    return conn.execute("SELECT * FROM stored_events ORDER BY notification_id").fetchall()


@pytest.mark.parametrize("change", CHANGES | OWNERS)
def test_the_service_cannot_change_the_log_or_what_guards_it(
    service_url: str, schema: str, ledger: Ledger, conn: Connection, change: str
):
    ledger.handle(PutFungible(sku="A", amount_in_stock=1))
    before = log(conn)

    with connect(service_url, schema) as service, pytest.raises(DENIED), service.transaction():
        service.execute((CHANGES | OWNERS)[change].encode())

    assert log(conn) == before


def test_the_service_cannot_change_the_log_by_copying_over_it(
    service_url: str, schema: str, ledger: Ledger, conn: Connection
):
    """COPY is an INSERT, which the unique positions keep from replacing anything."""
    ledger.handle(PutFungible(sku="A"))
    before = log(conn)

    copy = f"COPY {INTO.removeprefix('INTO')} FROM STDIN".encode()
    taken = pytest.raises(psycopg.errors.UniqueViolation)
    with connect(service_url, schema) as service, taken, service.cursor().copy(copy) as rows:
        rows.write_row(("product/A", 2, "ProductRegistered.v1", b"{}", 1, b""))

    assert log(conn) == before


@pytest.mark.parametrize("change", CHANGES | OWNERS)
def test_the_reporting_role_can_do_none_of_it(
    postgres_url: str, schema: str, ledger: Ledger, conn: Connection, change: str
):
    ledger.handle(PutFungible(sku="A", amount_in_stock=1))
    before = log(conn)

    url = psycopg.conninfo.make_conninfo(postgres_url, options=f"-c role={roles.reporting_role(schema)}")
    with connect(url, schema) as reporting, pytest.raises(INVISIBLE), reporting.transaction():
        reporting.execute((CHANGES | OWNERS)[change].encode())

    assert log(conn) == before


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("setting", ["", "SET session_replication_role = replica; "], ids=["origin", "replica"])
def test_the_owner_cannot_change_the_log_in_passing(ledger: Ledger, conn: Connection, change: str, setting: str):
    ledger.handle(PutFungible(sku="A", amount_in_stock=1))
    before = log(conn)

    with pytest.raises(REFUSED, match="append-only"):
        conn.execute((setting + CHANGES[change]).encode(), prepare=False)

    assert log(conn) == before


@pytest.mark.parametrize("change", CHANGES)
def test_the_owner_can_under_maintenance_and_it_is_written_down(ledger: Ledger, conn: Connection, change: str):
    ledger.handle(PutFungible(sku="A", amount_in_stock=1))
    before = log(conn)

    with conn.transaction():
        conn.execute("SELECT allow_maintenance('ticket 17: a court order')")
        conn.execute(CHANGES[change].encode())

    assert log(conn) != before
    written = conn.execute("SELECT statement, reason, done_by = session_user FROM maintenance_log").fetchall()
    assert set(written) == {(CHANGES[change], "ticket 17: a court order", True)}


def test_maintenance_ends_with_its_transaction(ledger: Ledger, conn: Connection):
    ledger.handle(PutFungible(sku="A"))
    with conn.transaction():
        conn.execute("SELECT allow_maintenance('ticket 17')")
        left = conn.execute("SELECT current_setting('stockledger.maintenance')").fetchone()
    conn.execute("SELECT set_config('stockledger.maintenance', %s, false)", left)

    with pytest.raises(REFUSED, match="append-only"):
        conn.execute(CHANGES["delete"].encode())


@pytest.mark.parametrize("reason", ["", "  ", None])
def test_maintenance_needs_a_reason(conn: Connection, reason: str | None):
    with pytest.raises(REFUSED, match="reason"):
        conn.execute("SELECT allow_maintenance(%s)", [reason])


def test_the_service_cannot_pretend_to_maintain(service_url: str, schema: str, ledger: Ledger, conn: Connection):
    """Even with a right that somebody gave it by mistake."""
    ledger.handle(PutFungible(sku="A"))
    conn.execute(sql.SQL("GRANT DELETE ON stored_events TO {}").format(sql.Identifier(roles.service_role(schema))))

    with connect(service_url, schema) as service, pytest.raises(REFUSED, match="append-only"), service.transaction():
        service.execute("SELECT set_config('stockledger.maintenance', pg_current_xact_id()::text || ' x', true)")
        service.execute(CHANGES["delete"].encode())


def test_what_was_done_under_maintenance_is_never_changed(ledger: Ledger, conn: Connection):
    ledger.handle(PutFungible(sku="A"))
    with conn.transaction():
        conn.execute("SELECT allow_maintenance('ticket 17')")
        conn.execute(CHANGES["delete"].encode())

    change = b"UPDATE maintenance_log SET reason = 'x'"
    for statement in (change, b"DELETE FROM maintenance_log", b"TRUNCATE maintenance_log"):
        with pytest.raises(REFUSED, match="never changed"):
            conn.execute(statement)


def test_every_table_is_among_the_rights(conn: Connection, schema: str):
    tables = {row[0] for row in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema])}

    assert tables == set(roles.RIGHTS)


def test_rights_are_given_again_to_tables_that_were_made_anew(service_url: str, schema: str, conn: Connection):
    conn.execute("CREATE TABLE new (LIKE items INCLUDING ALL)")
    conn.execute("DROP TABLE items")
    conn.execute("ALTER TABLE new RENAME TO items")
    with connect(service_url, schema) as service, pytest.raises(DENIED):
        service.execute("SELECT * FROM items")

    with conn.transaction():
        roles.grant(conn, schema)

    with connect(service_url, schema) as service:
        assert service.execute("SELECT * FROM items").fetchall() == []


def test_a_right_that_was_too_much_is_taken_back(service_url: str, schema: str, conn: Connection):
    conn.execute(sql.SQL("GRANT ALL ON stored_events TO {}").format(sql.Identifier(roles.service_role(schema))))

    with conn.transaction():
        roles.grant(conn, schema)

    with connect(service_url, schema) as service, pytest.raises(DENIED):
        service.execute(CHANGES["delete"].encode())


@pytest.fixture
def login(postgres_url: str, conn: Connection) -> Iterator[tuple[str, str]]:
    """A login without any rights, and the server as it is reached by it."""
    name = f"login_{conn.info.backend_pid}"
    conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'").format(sql.Identifier(name)))
    yield name, psycopg.conninfo.make_conninfo(postgres_url, user=name, password="x")
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)), prepare=False)


def test_a_login_that_has_the_services_role_alone_serves_and_cannot_migrate(
    schema: str, conn: Connection, login: tuple[str, str]
):
    name, url = login
    conn.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(roles.service_role(schema)), sql.Identifier(name)))

    assert migrate(url, schema) == []
    opened = Ledger(roles.service_url(url, schema), schema, ROOMS, InlineReadModels())
    opened.handle(PutFungible(sku="A", amount_in_stock=1))
    opened.close()
    assert len(log(conn)) == 2

    conn.execute("DELETE FROM schema_migrations WHERE version = 7")
    with pytest.raises(MigrationError, match="as its owner"):
        migrate(url, schema)


def test_a_login_without_rights_is_told_so(schema: str, login: tuple[str, str]):
    with pytest.raises(MigrationError, match="as its owner"):
        migrate(login[1], schema)


def test_an_owner_who_may_not_create_roles_goes_on_without(
    conn: Connection, login: tuple[str, str], caplog: pytest.LogCaptureFixture
):
    name, url = login
    own = f"{name}_own"
    conn.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(sql.Identifier(own), sql.Identifier(name)))
    try:
        assert migrate(url, own)
        assert roles.service_url(url, own) == url
        opened = Ledger(url, own, ROOMS, InlineReadModels())
        opened.handle(PutFungible(sku="A"))
        opened.close()
    finally:
        conn.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(own)))
    assert "may not create roles" in caplog.text
    assert "as the owner" in caplog.text


def test_an_owner_who_may_create_roles_needs_no_superuser(postgres_url: str, conn: Connection, login: tuple[str, str]):
    name, url = login
    own = f"{name}_own"
    conn.execute(sql.SQL("ALTER ROLE {} CREATEROLE").format(sql.Identifier(name)))
    conn.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(sql.Identifier(own), sql.Identifier(name)))
    try:
        migrate(url, own)
        assert roles.service_url(url, own) != url
        opened = Ledger(roles.service_url(url, own), own, ROOMS, InlineReadModels())
        opened.handle(PutFungible(sku="A"))
        opened.close()
    finally:
        drop_ledger(postgres_url, own)
