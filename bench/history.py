"""Long histories, made by SQL in the form in which the ledger, raw SQL and the library would have written them.

Writing ten million events through the service would take most of an hour; what is measured afterwards is the service
on a large log, not how the log came to be. Every stream keeps its versions and balances, every read model agrees.
"""

from collections.abc import Sequence
from typing import Any

import psycopg

from bench.service import SPREAD
from ledger.store.connection import lock_key

CHUNK_EVENTS = 1_000_000

_EVENTS = """
WITH head AS MATERIALIZED (
    SELECT notification_id AS position, greatest(clock_timestamp(), recorded_at) AS recorded_at, digest
    FROM stored_events ORDER BY notification_id DESC LIMIT 1
), levels AS (
    SELECT row_number() OVER (ORDER BY sku) AS number, * FROM stock_levels WHERE sku = ANY(%(skus)s)
)
INSERT INTO stored_events (originator_id, originator_version, topic, state, notification_id, recorded_at, digest)
SELECT
    originator_id, originator_version, topic, state, notification_id, recorded_at,
    chain(
        CASE WHEN notification_id = head.position + 1 THEN head.digest ELSE '' END
        || entry_line((originator_id, originator_version, topic, state, notification_id, recorded_at, NULL))
    ) OVER (ORDER BY notification_id)
FROM (
    SELECT
        'stock/main/' || levels.sku AS originator_id, levels.version + round AS originator_version,
        'StockAdded.v1' AS topic,
        convert_to(
            '{"actor":"anonymous","request_id":"' || md5(round || levels.sku) || '","quantity":1,"on_hand":'
            || levels.on_hand + round || ',"reserved":' || levels.reserved || '}', 'UTF8'
        ) AS state,
        head.position + (round - 1) * %(count)s + levels.number AS notification_id
    FROM generate_series(1, %(rounds)s) AS round CROSS JOIN levels CROSS JOIN head
) AS entries CROSS JOIN head
ORDER BY notification_id
"""
_LEVELS = """
UPDATE stock_levels SET
    on_hand = on_hand + %(rounds)s, version = version + %(rounds)s,
    updated_at = (SELECT max(recorded_at) FROM stored_events)
WHERE sku = ANY(%(skus)s)
"""

# Raw SQL's events table, see rawsql.py.
_RAW_EVENTS = """
INSERT INTO bench_raw.events (stream, version, name, data)
SELECT
    'stock/main/' || sku, version + round, 'StockAdded.v1',
    convert_to(
        '{"actor":"anonymous","request_id":"5f0c2c36-8a0e-4c7c-9d0e-0d8f5b7f2a11","quantity":1,"on_hand":'
        || on_hand + round || ',"reserved":' || reserved || '}', 'UTF8'
    )
FROM generate_series(1, %(rounds)s) AS round CROSS JOIN bench_raw.stock
ORDER BY round, sku
"""
_RAW_STOCK = "UPDATE bench_raw.stock SET on_hand = on_hand + %(rounds)s, version = version + %(rounds)s"

# The library's table: an event holds neither its version nor a balance, so the last one of a stream can follow itself.
_LIBRARY_EVENTS = """
INSERT INTO bench_library.warehouse_events (originator_id, originator_version, topic, state)
SELECT originator_id, originator_version + round, topic, state
FROM generate_series(1, %(rounds)s) AS round CROSS JOIN unnest(%(ids)s) AS id CROSS JOIN LATERAL (
    SELECT * FROM bench_library.warehouse_events WHERE originator_id = id ORDER BY originator_version DESC LIMIT 1
) AS last
ORDER BY round, originator_id
"""


def grow(conn: psycopg.Connection[Any], schema: str, events: int, skus: Sequence[str] = SPREAD) -> int:
    """Let the log grow to at least `events`, all new ones adds to `skus`, which must have stock; returns how many.

    `conn` is in autocommit mode and finds the ledger's tables.
    """
    while (missing := events - count(conn)) > 0:
        rounds = min(CHUNK_EVENTS // len(skus), -(-missing // len(skus)))
        values = {"skus": list(skus), "count": len(skus), "rounds": rounds}
        with conn.transaction():
            conn.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(schema, "log")])
            conn.execute(_EVENTS, values)
            conn.execute(_LEVELS, values)
    conn.execute("VACUUM ANALYZE stored_events, stock_levels, products, reservations, reservation_lines")
    return count(conn)


def count(conn: psycopg.Connection[Any]) -> int:
    """Events in the log: positions have no gaps."""
    return number(conn, "SELECT coalesce(max(notification_id), 0) FROM stored_events")


def followed(conn: psycopg.Connection[Any]) -> int:
    """The position that every following read model has reached; 0 before they began."""
    return number(conn, "SELECT coalesce(min(position), 0) FROM following")


def grow_raw(conn: psycopg.Connection[Any], events: int, skus: int) -> None:
    """Let raw SQL's table of events grow to at least `events`, spread over all its SKUs."""
    while (missing := events - number(conn, "SELECT coalesce(max(position), 0) FROM bench_raw.events")) > 0:
        values = {"rounds": min(CHUNK_EVENTS // skus, -(-missing // skus))}
        with conn.transaction():
            conn.execute(_RAW_EVENTS, values)
            conn.execute(_RAW_STOCK, values)
    conn.execute("VACUUM ANALYZE bench_raw.events, bench_raw.stock")


def grow_library(conn: psycopg.Connection[Any], events: int, ids: Sequence[Any]) -> None:
    """Let the library's aggregates `ids`, whose last event is an add, grow to at least `events` altogether."""
    last = "SELECT coalesce(max(notification_id), 0) FROM bench_library.warehouse_events"
    while (missing := events - number(conn, last)) > 0:
        rounds = min(CHUNK_EVENTS // len(ids), -(-missing // len(ids)))
        conn.execute(_LIBRARY_EVENTS, {"rounds": rounds, "ids": list(ids)})
    conn.execute("VACUUM ANALYZE bench_library.warehouse_events")


def number(conn: psycopg.Connection[Any], statement: str) -> int:
    """The one number that a statement yields."""
    row = conn.execute(statement).fetchone()
    assert row is not None, "an aggregate has a row"
    return int(row[0])
