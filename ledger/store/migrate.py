"""Numbered migrations: they make everything in the ledger's schema, once each, in one transaction."""

import hashlib
from collections.abc import Callable
from importlib import resources
from typing import NamedTuple

import psycopg
from psycopg import sql

from ledger.store import roles
from ledger.store.connection import Connection, connect, lock_key

# Another process may be migrating a large table.
_WAIT_FOR_OTHERS = "10min"

_OWNED = "SELECT pg_has_role(current_user, nspowner, 'USAGE') FROM pg_namespace WHERE nspname = %s"
_READ_ONLY = "SHOW transaction_read_only"
_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
_APPLIED = "SELECT version, name, checksum FROM schema_migrations ORDER BY version"
_RECORD = "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)"


class MigrationError(Exception):
    """The schema is not one that this version of the service can use."""


class Migration(NamedTuple):
    version: int
    name: str
    statements: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.statements.encode()).hexdigest()


def migrations() -> list[Migration]:
    """All migrations of this version of the service, in order."""
    files = resources.files("ledger.store").joinpath("migrations").iterdir()
    scripts = sorted((file.name, file.read_text()) for file in files if file.name.endswith(".sql"))
    return [Migration(int(name.partition("_")[0]), name, text) for name, text in scripts]


def migrate(url: str, schema: str, define: Callable[[Connection, str], None] | None = None) -> list[str]:
    """Bring the schema, its roles and what `define` makes of it up to date; return the names of what was applied now.

    Safe when several processes start at once: one migrates, the others wait and find nothing to do. A login that does
    not own the schema, such as one that has the service's role alone, only looks whether all is applied.
    Raises MigrationError when it is not, when the schema is newer than this service, or was made by other scripts, and
    where nothing can be written.
    """
    with connect(url, schema, "stockledger migrate") as conn, conn.transaction():
        if conn.execute(_READ_ONLY).fetchone() == ("on",):
            raise MigrationError("the database takes no writes: a read replica is for status, history, report, verify")
        owned = conn.execute(_OWNED, [schema]).fetchone()
        if owned == (False,):
            _require_current(conn, schema)
            return []
        conn.execute("SELECT set_config('lock_timeout', %s, true)", [_WAIT_FOR_OTHERS])
        conn.execute("SELECT set_config('statement_timeout', '0', true)")
        conn.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(schema, "migrate")])
        if conn.execute(_OWNED, [schema]).fetchone() is None:  # having asked may have been before another made it
            conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        conn.execute(_TABLE)
        applied = [_apply(conn, migration) for migration in _pending(conn, schema)]
        roles.grant(conn, schema)
        if define is not None:
            define(conn, schema)
        return applied


def require_current(url: str, schema: str) -> None:
    """Raises MigrationError unless the schema is there and has every migration; changes nothing."""
    with connect(url, schema, "stockledger migrate") as conn:
        _require_current(conn, schema)


def _require_current(conn: Connection, schema: str) -> None:
    try:
        pending = _pending(conn, schema)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
        pending = migrations()
    if pending:
        raise MigrationError(
            f"schema {schema!r} is not migrated, or not for this login: run 'stockledger migrate' as its owner, or "
            "'stockledger serve' where the data is embedded"
        )


def is_current(conn: Connection) -> bool:
    """Whether the schema has every migration of this version of the service."""
    applied = conn.execute("SELECT max(version) FROM schema_migrations").fetchone()
    return applied is not None and applied[0] == migrations()[-1].version


def _pending(conn: Connection, schema: str) -> list[Migration]:
    known = {migration.version: migration for migration in migrations()}
    applied = conn.execute(_APPLIED).fetchall()
    for version, name, checksum in applied:
        if version not in known:
            raise MigrationError(f"schema {schema!r} has migration {name}: it needs a newer stockledger")
        if known[version].checksum != checksum:
            raise MigrationError(f"schema {schema!r} was made by another text of migration {name}")
    done = {version for version, _, _ in applied}
    return [migration for version, migration in known.items() if version not in done]


def _apply(conn: Connection, migration: Migration) -> str:
    conn.execute(migration.statements.encode(), prepare=False)  # several statements; bytes: our own file
    conn.execute(_RECORD, [migration.version, migration.name, migration.checksum])
    return migration.name
