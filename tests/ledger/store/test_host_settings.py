"""Whatever the host says (environment, database, role, cluster): what is written, read and decided stays the same."""

import io
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import psycopg
import pytest
from falcon import testing
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from api.app import create_app
from api.cli import main
from api.http.service import Service
from ledger.engine.ledger import Ledger
from ledger.reservations.commands import ExpireReservation
from ledger.rooms import ROOMS
from ledger.store import roles
from ledger.store.connection import UnfitError, connect
from ledger.store.migrate import migrate
from projections.following.projection_runner import Follower
from projections.inline import InlineReadModels
from projections.reader import Reader
from projections.reporting import queries
from projections.reservations import reservations
from tests.conftest import drop_ledger

# Every plane, marks that combine, and letters that run from right to left.
TEXT = "é€ 漢字 𝕬😀 e\u0301 עברית \\ \" ' \t\n"
RESERVATION = "00000000-0000-4000-8000-000000000001"
HOSTILE = {
    "client_encoding": "LATIN1",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "America/St_Johns",
    "bytea_output": "escape",
    "extra_float_digits": "-5",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "row_security": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "lock_timeout": "1ms",
    "statement_timeout": "50ms",
    "idle_in_transaction_session_timeout": "1ms",
    "idle_session_timeout": "20ms",
    "search_path": "pg_catalog",
    "synchronous_commit": "off",
    "quote_all_identifiers": "on",
    "escape_string_warning": "on",
    "xmloption": "document",
}
ENVIRONMENT = {
    "PGCLIENTENCODING": "LATIN1",
    "PGDATESTYLE": "German",
    "PGTZ": "America/St_Johns",
    "PGGEQO": "off",
    "PGOPTIONS": "-c bytea_output=escape -c standard_conforming_strings=off -c default_transaction_read_only=on",
}


@contextmanager
def database(postgres_url: str, encoding: str = "UTF8") -> Iterator[str]:
    """A database of its own on the session's server; everything in it goes with it."""
    name = f"host_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        create = sql.SQL("CREATE DATABASE {} ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        if admin.info.server_version >= 170_000:
            create = sql.SQL("CREATE DATABASE {} ENCODING {} LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0")
        admin.execute(create.format(sql.Identifier(name), sql.Literal(encoding)))
        parts = {**conninfo_to_dict(postgres_url), "dbname": name}
        try:
            yield f"postgresql://{parts.get('user') or ''}@/{name}?" + "&".join(
                f"{key}={str(value).replace('/', '%2F')}"
                for key, value in parts.items()
                if key not in ("user", "dbname")
            )
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def scenario(url: str, schema: str) -> dict[str, Any]:
    """Text, a hold that runs out, history, reports, the past and verify; what each of them answered."""
    migrate(url, schema, queries.ensure)
    service_url = roles.service_url(url, schema)
    ledger = Ledger(service_url, schema, ROOMS, InlineReadModels())
    reader = Reader(service_url, schema, max_connections=2)
    client = testing.TestClient(create_app(Service(ledger, reader, 3600)))
    try:
        said = {"name": TEXT, "amount_in_stock": 5, "unit_price_cents": 123}
        put = client.simulate_put("/api/fungible/A€𝕬", json=said)
        body = {"reservation_id": RESERVATION, "ttl_seconds": 1, "owner": TEXT, "reason": TEXT}
        held = client.simulate_post("/api/fungible/A€𝕬/reserve/2", json=body)
        assert (put.status_code, held.status_code) == (200, 200), (put.text, held.text)
        expire(ledger, reader)
        follow(service_url, schema)
        answers = {
            "product": client.simulate_get("/api/fungible/A€𝕬"),
            "reservation": client.simulate_get(f"/api/reservations/{RESERVATION}"),
            "history": client.simulate_get("/api/fungible/A€𝕬/history"),
            "past": client.simulate_get("/api/fungible/A€𝕬?at_position=3"),
            "then": client.simulate_get("/api/fungible/A€𝕬", params={"as_of": held.json["updated_at"]}),
            "log": client.simulate_get("/api/events"),
            "ready": client.simulate_get("/health/ready"),
            **{name: client.simulate_get(f"/api/reports/{name}") for name in ("stock", "movements", "valuation")},
        }
        assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 200)
        return {name: without_times(answer.json) for name, answer in answers.items()} | {
            "verify": verified(url, schema)
        }
    finally:
        ledger.close()
        reader.close()


def expire(ledger: Ledger, reader: Reader) -> None:
    """As the expiry process does, when its time has come by the database's clock."""
    for _ in range(400):
        due, seconds = reader.read(lambda conn: reservations.due(conn, 10))
        if due:
            ledger.handle_many([ExpireReservation(reservation_id=each) for each in due])
            return
        assert seconds is not None and seconds <= 1, "a hold of a second is over in a second"
        time.sleep(0.02)
    raise AssertionError("the hold did not run out")


def follow(url: str, schema: str) -> None:
    follower = Follower(url, schema)
    try:
        while not follower.step():
            pass
    finally:
        follower.close()


def verified(url: str, schema: str) -> int:
    with redirect_stdout(io.StringIO()):
        return main(["verify", "--database-url", url, "--schema", schema])


def without_times(answer: Any) -> Any:
    """Times, ids of requests and what depends on them differ from run to run."""
    if isinstance(answer, dict):
        changing = {"recorded_at", "created_at", "updated_at", "expires_at", "ended_at", "request_id", "details"}
        changing |= {"day", "from", "to", "time", "as_of", "next_digest", "lag_seconds"}
        return {name: without_times(value) for name, value in answer.items() if name not in changing}
    return [without_times(each) for each in answer] if isinstance(answer, list) else answer


@pytest.fixture(scope="module")
def expected(postgres_url: str) -> dict[str, Any]:
    """What a host answers that says nothing."""
    with database(postgres_url) as url:
        answers = scenario(url, "quiet")
    drop_ledger(postgres_url, "quiet")
    assert answers["verify"] == 0
    assert answers["product"]["name"] == TEXT
    assert answers["reservation"]["state"] == "expired"
    return answers


def test_settings_of_the_environment_change_nothing(
    postgres_url: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    with database(postgres_url) as url:
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        try:
            assert scenario(url, "surrounded") == expected
        finally:
            monkeypatch.undo()
    drop_ledger(postgres_url, "surrounded")


def test_settings_of_the_database_change_nothing(postgres_url: str, expected: dict[str, Any]):
    with database(postgres_url) as url:
        name = str(conninfo_to_dict(url)["dbname"])
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            for setting, value in HOSTILE.items():
                text = sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    sql.Identifier(name), sql.Identifier(setting), sql.Literal(value)
                )
                admin.execute(text)

        assert scenario(url, "told_by_database") == expected
    drop_ledger(postgres_url, "told_by_database")


def test_settings_of_the_role_change_nothing(postgres_url: str, expected: dict[str, Any]):
    with database(postgres_url) as url, psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE hostile LOGIN SUPERUSER")
        try:
            for setting, value in HOSTILE.items():
                text = sql.SQL("ALTER ROLE hostile SET {} = {}").format(sql.Identifier(setting), sql.Literal(value))
                admin.execute(text)
            user = str(conninfo_to_dict(url)["user"])
            assert scenario(url.replace(f"//{user}@", "//hostile@"), "told_by_role") == expected
        finally:
            drop_ledger(url, "told_by_role")
            admin.execute("DROP OWNED BY hostile; DROP ROLE hostile")


def maintain(url: str, statement: str) -> None:
    """As docs/operations.md says: the owner, with a reason that is written down."""
    with connect(url, "mangled") as owner, owner.transaction():
        owner.execute("SELECT allow_maintenance('text that was mangled')")
        owner.execute(statement.encode())


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_another_encoding_is_refused_before_anything_is_made(
    postgres_url: str, encoding: str, capsys: pytest.CaptureFixture[str]
):
    with database(postgres_url, encoding) as url:
        assert main(["migrate", "--database-url", url]) == 1

        assert "ENCODING 'UTF8' TEMPLATE template0" in capsys.readouterr().err
        with psycopg.connect(url) as conn:
            made = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('stockledger', 'reporting')"
            assert conn.execute(made).fetchone() == (0,)


def test_a_session_in_which_triggers_sleep_is_refused(postgres_url: str):
    with database(postgres_url) as url:
        name = str(conninfo_to_dict(url)["dbname"])
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            text = "ALTER DATABASE {} SET session_replication_role = replica"
            admin.execute(sql.SQL(text).format(sql.Identifier(name)))

        with pytest.raises(UnfitError, match="session_replication_role"):
            connect(url, "stockledger")


def test_a_text_that_was_mangled_by_another_encoding_is_named_by_verify(
    postgres_url: str, capsys: pytest.CaptureFixture[str]
):
    """As entries were stored whose connection spoke LATIN1: each byte of the text a character of its own."""
    with database(postgres_url) as url:
        migrate(url, "mangled", queries.ensure)
        service_url = roles.service_url(url, "mangled")
        ledger = Ledger(service_url, "mangled", ROOMS, InlineReadModels())
        reader = Reader(service_url, "mangled", max_connections=1)
        client = testing.TestClient(create_app(Service(ledger, reader, 3600)))
        for sku, name in (("A", "plain"), ("B", "5 €"), ("C", "plain")):
            assert client.simulate_put(f"/api/fungible/{sku}", json={"name": name}).status_code == 200
        ledger.close()
        reader.close()
        maintain(url, "UPDATE stored_events SET state = convert_to(convert_from(state, 'LATIN1'), 'UTF8')")
        assert main(["verify", "--database-url", url, "--schema", "mangled", "--json"]) == 1
        findings = json.loads(capsys.readouterr().out)["findings"]
        assert [each["position"] for each in findings if each["kind"] == "seal"] == [2]

        back = (
            "UPDATE stored_events SET state = convert_to(convert_from(state, 'UTF8'), 'LATIN1') WHERE notification_id"
        )
        maintain(url, f"{back} IN (2)")
        assert main(["verify", "--database-url", url, "--schema", "mangled", "--json"]) == 0
    drop_ledger(postgres_url, "mangled")


def test_a_ledger_in_another_encoding_can_be_read_and_so_taken_elsewhere(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """As earlier versions made them."""
    with database(postgres_url, "LATIN1") as url:
        with monkeypatch.context() as earlier:
            earlier.setattr("ledger.store.connection.ENCODING", "LATIN1")
            migrate(url, "latin", queries.ensure)

        where = ["--database-url", url, "--schema", "latin"]
        assert main(["serve", *where]) == 1
        assert "TEMPLATE template0" in capsys.readouterr().err
        assert main(["verify", *where]) == 0
        assert main(["export", str(tmp_path / "log"), *where]) == 0
    drop_ledger(postgres_url, "latin")
