"""How the whole ledger stands: its log, its read models, its reservations, its tables and their sizes."""

from datetime import datetime

from msgspec import Struct

from ledger.store.connection import BoundedConnection
from ledger.store.roundtrip import ask_one
from projections import inline
from projections.following import projection_runner

_LOG = """
SELECT coalesce(notification_id, 0), encode(digest, 'hex'), recorded_at, pg_total_relation_size('stored_events')
FROM (VALUES (true)) AS always LEFT JOIN (
    SELECT notification_id, digest, recorded_at FROM stored_events ORDER BY notification_id DESC LIMIT 1
) AS last ON true
"""
_RESERVATIONS = """
SELECT
    count(*) FILTER (WHERE expires_at > statement_timestamp()),
    count(*) FILTER (WHERE expires_at <= statement_timestamp())
FROM reservations WHERE state = 'open'
"""
# What the planner believes of the number of rows: counting them would read every table.
_TABLES = """
SELECT c.relname, nullif(c.reltuples, -1)::bigint, pg_table_size(c.oid), pg_indexes_size(c.oid)
FROM pg_class AS c JOIN pg_class AS log ON log.oid = 'stored_events'::regclass AND log.relnamespace = c.relnamespace
WHERE c.relkind = 'r'
ORDER BY pg_total_relation_size(c.oid) DESC, c.relname
"""
_MIGRATIONS = "SELECT name, applied_at FROM schema_migrations ORDER BY version"


class ReadModel(Struct, frozen=True):
    """How far it is: `lag_events` of the log are not in it yet, the oldest for `lag_seconds`; 0 for an inline one."""

    name: str
    position: int
    lag_events: int
    lag_seconds: float
    failed_position: int | None


class Table(Struct, frozen=True):
    """`rows` is an estimate, null where none was made yet."""

    name: str
    rows: int | None
    table_bytes: int
    index_bytes: int


class Migration(Struct, frozen=True):
    name: str
    applied_at: datetime


class Status(Struct, frozen=True):
    """`digest`, in hexadecimal, and `recorded_at` are those of the last entry, null in an empty log.

    `bytes_per_event` is what the log takes with its indexes.
    """

    position: int
    digest: str | None
    recorded_at: datetime | None
    bytes_per_event: int | None
    open_reservations: int
    overdue_reservations: int
    read_models: list[ReadModel]
    tables: list[Table]
    migrations: list[Migration]


def status(conn: BoundedConnection) -> Status:
    ((position, digest, recorded_at, log_bytes),) = ask_one(conn, _LOG)
    ((open_reservations, overdue_reservations),) = ask_one(conn, _RESERVATIONS)
    return Status(
        position,
        digest,
        recorded_at,
        log_bytes // position if position else None,
        open_reservations,
        overdue_reservations,
        [ReadModel(name, position, 0, 0.0, None) for name in inline.TABLES]
        + [ReadModel(*lag) for lag in projection_runner.lags(conn)],
        [Table(*row) for row in ask_one(conn, _TABLES)],
        [Migration(*row) for row in ask_one(conn, _MIGRATIONS)],
    )
