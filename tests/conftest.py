"""Real PostgreSQL for the whole session, a fresh schema for each test that asks for one."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from falcon import testing
from psycopg import sql

from api.app import create_app
from api.http.service import Service
from ledger.engine.ledger import Ledger
from ledger.rooms import ROOMS
from ledger.store import roles
from ledger.store.connection import Connection, connect
from ledger.store.embedded.server import EmbeddedPostgres
from ledger.store.migrate import migrate
from projections.inline import InlineReadModels
from projections.reader import Reader

# Tests look at what is written, not at whether a power cut would keep it.
FAST = {"fsync": "off", "full_page_writes": "off"}


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server of its own, or the one that TEST_DATABASE_URL names."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="stockledger-tests-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user when the tests run as root
    try:
        with EmbeddedPostgres.start(folder, settings=FAST) as postgres:
            yield postgres.url
    finally:
        shutil.rmtree(folder)


def drop_ledger(url: str, name: str) -> None:
    """Drop a schema with everything that migrating it has made, its roles too."""
    with psycopg.connect(url, autocommit=True) as conn:
        schemas = [sql.Identifier(each) for each in (name, roles.reporting_schema(name))]
        owners = [sql.Identifier(each) for each in (roles.service_role(name), roles.reporting_role(name))]
        conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.SQL(", ").join(schemas)))
        conn.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.SQL(", ").join(owners)))


@pytest.fixture
def schema(postgres_url: str) -> Iterator[str]:
    """A migrated schema that is dropped after the test."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    migrate(postgres_url, name)
    yield name
    drop_ledger(postgres_url, name)


@pytest.fixture
def service_url(postgres_url: str, schema: str) -> str:
    """The server as the service reaches it: in the service's own role."""
    url = roles.service_url(postgres_url, schema)
    assert url != postgres_url
    return url


@pytest.fixture
def conn(postgres_url: str, schema: str) -> Iterator[Connection]:
    with connect(postgres_url, schema) as connection:
        yield connection


@pytest.fixture
def ledger(service_url: str, schema: str) -> Iterator[Ledger]:
    opened = Ledger(service_url, schema, ROOMS, InlineReadModels())
    yield opened
    opened.close()


@pytest.fixture
def client(service_url: str, schema: str, ledger: Ledger) -> Iterator[testing.TestClient]:
    """The application as callers see it, without the server in front of it."""
    reader = Reader(service_url, schema, max_connections=4)
    yield testing.TestClient(create_app(Service(ledger, reader, 3600)))
    reader.close()
