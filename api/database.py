"""The database that a command works on: the one of DATABASE_URL, or the embedded PostgreSQL for as long as it works."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.settings import Settings
from ledger.store import roles
from ledger.store.connection import READ_ONLY_OPTION
from ledger.store.embedded.server import EmbeddedPostgres
from ledger.store.migrate import migrate, require_current
from projections.reporting import queries


@contextmanager
def database(settings: Settings, *, as_owner: bool = False) -> Iterator[tuple[str, EmbeddedPostgres | None]]:
    """How to reach it, migrated: as the service's role unless `as_owner`; and the embedded PostgreSQL if it is that.

    Raises EmbeddedPostgresError, MigrationError, psycopg.OperationalError.
    """
    if settings.database_url is not None:
        yield _migrated(settings.database_url, settings.schema, as_owner), None
        return
    with EmbeddedPostgres.start(settings.data_dir) as postgres:
        yield _migrated(postgres.url, settings.schema, as_owner), postgres


@contextmanager
def database_as_it_is(settings: Settings) -> Iterator[str]:
    """How to reach it to read it: nothing is migrated or can be written, and the login given is the one that is used.

    So it may be a read replica, and a newer version may look at the ledger of an older one without changing it.

    Raises EmbeddedPostgresError, MigrationError, psycopg.OperationalError.
    """
    if settings.database_url is not None:
        yield _read_only(settings.database_url, settings.schema)
        return
    with EmbeddedPostgres.start(settings.data_dir) as postgres:
        yield _read_only(postgres.url, settings.schema)


def _migrated(url: str, schema: str, as_owner: bool) -> str:
    migrate(url, schema, queries.ensure)
    return url if as_owner else roles.service_url(url, schema)


def _read_only(url: str, schema: str) -> str:
    options = conninfo_to_dict(url).get("options") or ""
    reading = make_conninfo(url, options=f"{options} {READ_ONLY_OPTION}".strip())
    require_current(reading, schema)
    return reading
