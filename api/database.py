"""The database that a command works on: the one of DATABASE_URL, or the embedded PostgreSQL for as long as it works."""

from collections.abc import Iterator
from contextlib import contextmanager

from api.settings import Settings
from ledger.store.embedded import EmbeddedPostgres
from ledger.store.migrate import migrate


@contextmanager
def database(settings: Settings) -> Iterator[tuple[str, EmbeddedPostgres | None]]:
    """Its URL, migrated, and the embedded PostgreSQL if it is that.

    Raises EmbeddedPostgresError, MigrationError, psycopg.OperationalError.
    """
    if settings.database_url is not None:
        migrate(settings.database_url, settings.schema)
        yield settings.database_url, None
        return
    with EmbeddedPostgres.start(settings.data_dir) as postgres:
        migrate(postgres.url, settings.schema)
        yield postgres.url, postgres
