"""Numbered migrations: they make everything in the ledger's schema, once each, in one transaction."""

import hashlib
from importlib import resources
from typing import NamedTuple

from psycopg import sql

from ledger.store.connection import Connection, connect, lock_key

# Another process may be migrating a large table.
_WAIT_FOR_OTHERS = "10min"

_EXISTS = "SELECT 1 FROM pg_namespace WHERE nspname = %s"
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


def migrate(url: str, schema: str) -> list[str]:
    """Bring the schema up to date and return the names of what was applied now.

    Safe when several processes start at once: one migrates, the others wait and find nothing to do.
    Raises MigrationError when the schema is newer than this service, or was made by other scripts.
    """
    with connect(url, schema, "stockledger migrate") as conn, conn.transaction():
        conn.execute("SELECT set_config('lock_timeout', %s, true)", [_WAIT_FOR_OTHERS])
        conn.execute("SELECT set_config('statement_timeout', '0', true)")
        conn.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(schema, "migrate")])
        if conn.execute(_EXISTS, [schema]).fetchone() is None:
            conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        conn.execute(_TABLE)
        return [_apply(conn, migration) for migration in _pending(conn, schema)]


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
