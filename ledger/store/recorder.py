"""eventsourcing's PostgreSQL recorder, made safe for this ledger. All use of the library's private parts is here.

What differs from the library, and why (numbers of the library's traps are in DECISIONS.md):
positions are given by the writer, who holds the log's lock and has read the last one, so they have no gaps, not even
after a rollback; each entry is sealed with the digest of the one before (`ledger.store.hash_chain`); the lock is an
advisory one, which does not fight VACUUM and needs no rights beyond INSERT; nothing is retried, because a retry after a
lost COMMIT reports a conflict for what was written; nothing is NOTIFYed.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import psycopg
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg import Cursor, sql
from psycopg.rows import DictRow
from psycopg.types.composite import CompositeInfo, register_composite

from ledger.store.connection import LOCK_TIMEOUT_MILLISECONDS, lock_key, parameters, state_settings
from ledger.store.durability import HAS_STANDBYS
from ledger.store.hash_chain import digests_after
from ledger.store.migrate import MigrationError
from ledger.store.roundtrip import RoundTrip

EVENT_TYPE = "stored_event_text"

# The events as one text, a line for each, its members apart by unit separators: neither is in a name or in JSON, so
# nothing is escaped, and the server takes it apart in a third of the time that JSON within JSON needs.
_APPEND = r"""
INSERT INTO stored_events (originator_id, originator_version, topic, state, notification_id, recorded_at, digest)
SELECT
    split_part(line, E'\x1f', 1), split_part(line, E'\x1f', 2)::bigint, split_part(line, E'\x1f', 3),
    convert_to(split_part(line, E'\x1f', 4), 'UTF8'), $2::bigint + number, $3::timestamptz,
    substring($4::bytea FROM 32 * number::integer - 31 FOR 32)
FROM string_to_table($1, E'\n') WITH ORDINALITY AS events (line, number)
"""
# The later of the clock and the last entry's time, so that a clock that is set back does not make the log run
# backwards; the last position; the last digest.
HEAD = f"""
SELECT
    greatest(clock_timestamp(), last.recorded_at) AS recorded_at,
    coalesce(last.notification_id, 0) AS position,
    coalesce(last.digest, decode(repeat('00', 32), 'hex')) AS digest,
    {HAS_STANDBYS} AS has_standbys
FROM (VALUES (true)) AS always LEFT JOIN (
    SELECT notification_id, recorded_at, digest FROM stored_events ORDER BY notification_id DESC LIMIT 1
) AS last ON true
"""
# The library's call: the events as an array of its composite type.
_INSERT = sql.SQL("""
    INSERT INTO {schema}.stored_events (
        originator_id, originator_version, topic, state, notification_id, recorded_at, digest
    )
    SELECT
        e.originator_id, e.originator_version, e.topic, e.state,
        %(position)s + e.ordinality, %(recorded_at)s, substring(%(digests)s FROM 32 * e.ordinality::integer - 31 FOR 32)
    FROM unnest(%(events)s::{schema}.stored_event_text[]) WITH ORDINALITY
        AS e (originator_id, originator_version, topic, state, ordinality)
    RETURNING notification_id
""")


class LedgerDatastore(PostgresDatastore):
    """The library's connection pool, for text stream names, opened with this service's connection parameters."""

    def __init__(self, url: str, schema: str, *, pool_size: int = 1) -> None:
        self._url = url
        super().__init__("", "", "", "", "", schema=schema, originator_id_type="text", pool_size=pool_size)
        # The library takes five parts of an address; a URL may hold more (TLS, options, several hosts).
        assert isinstance(self.pool.kwargs, dict)
        for part in ("dbname", "host", "port", "user", "password"):
            del self.pool.kwargs[part]
        self.pool.kwargs.update(parameters(url, schema, "stockledger log"))

    def after_connect_func(self) -> Callable[[psycopg.Connection[Any]], None]:
        """What the library's pool does with a new connection: the same as everywhere else."""
        url, schema = self._url, self.schema

        def after_connect(conn: psycopg.Connection[Any]) -> None:
            conn.autocommit = True
            state_settings(conn, url, schema)

        return after_connect

    def register_type_adapters(self) -> None:
        """The library asks the database here already; ours does so with the first connection (`LedgerRecorder.adapt`).

        A process can then be made while the database is away.
        """


class LedgerRecorder(PostgresApplicationRecorder):
    def __init__(self, datastore: PostgresDatastore) -> None:
        super().__init__(datastore)
        self.insert_events_statement = _INSERT.format(schema=sql.Identifier(datastore.schema))
        lock = lock_key(datastore.schema, "log")
        self.lock_table_statements = [
            sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{LOCK_TIMEOUT_MILLISECONDS}ms")),
            sql.SQL("SELECT pg_advisory_xact_lock({})").format(sql.Literal(lock)),
        ]

    def adapt(self, conn: psycopg.Connection[Any]) -> None:
        """Let `conn` send stored events; raises MigrationError if the schema is not migrated."""
        info = self.datastore.psycopg_type_adapters.get(EVENT_TYPE) or CompositeInfo.fetch(conn, EVENT_TYPE)
        if info is None:
            raise MigrationError(f"schema {self.datastore.schema!r} is not migrated: run 'stockledger migrate'")
        register_composite(info, conn)
        self.datastore.psycopg_type_adapters[EVENT_TYPE] = info
        self.datastore.psycopg_python_types[EVENT_TYPE] = info.python_type

    def append(
        self,
        trip: RoundTrip,
        stored_events: Sequence[StoredEvent],
        *,
        position: int,
        recorded_at: datetime,
        before: bytes,
    ) -> bytes:
        """Ask for an append after `position`, in a transaction whose owner holds the log's lock.

        `before` is the digest at `position`; returns the last one.
        """
        lines = [
            f"{e.originator_id}\x1f{e.originator_version}\x1f{e.topic}\x1f{e.state.decode()}" for e in stored_events
        ]
        digests = digests_after(before, position, recorded_at, stored_events)
        trip.ask(_APPEND, "\n".join(lines), position, recorded_at, b"".join(digests))
        return digests[-1]

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int]:
        """Append in a transaction of its own: the library's call, without its retries."""
        with self.datastore.get_connection() as conn, conn.transaction(), conn.cursor() as cursor:
            self.adapt(conn)
            self._insert_stored_events(cursor, stored_events, **kwargs)
            return [row["notification_id"] for row in cursor.fetchall()]

    def _insert_stored_events(self, curs: Cursor[DictRow], stored_events: Sequence[StoredEvent], **kwargs: Any) -> None:
        self._lock_table(curs)
        head = curs.execute(HEAD).fetchone()
        assert head is not None, "there is one, whatever is in the log"
        events = [self.construct_pg_stored_event(*_row(e)) for e in stored_events]
        digests = digests_after(head["digest"], head["position"], head["recorded_at"], stored_events)
        curs.execute(self.insert_events_statement, {**head, "events": events, "digests": b"".join(digests)})


def _row(event: StoredEvent) -> tuple[str, int, str, bytes]:
    return str(event.originator_id), event.originator_version, event.topic, event.state
