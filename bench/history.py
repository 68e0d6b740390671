"""A long history, made by SQL in the form in which the ledger would have written it.

Writing ten million events through the service would take most of an hour; what is measured afterwards is the service
on a large log, not how the log came to be. Every stream keeps its versions and balances, every read model agrees.
"""

import psycopg

from bench.service import SPREAD
from ledger.store.connection import lock_key

CHUNK_ROUNDS = 1_000  # each adds one event to every SKU

_EVENTS = """
WITH head AS (
    SELECT coalesce(max(notification_id), 0) AS position, max(recorded_at) AS recorded_at FROM stored_events
), levels AS (
    SELECT row_number() OVER (ORDER BY sku) AS number, * FROM stock_levels WHERE sku = ANY(%(skus)s)
)
INSERT INTO stored_events (originator_id, originator_version, topic, state, notification_id, recorded_at)
SELECT
    'stock/main/' || levels.sku, levels.version + round, 'StockAdded.v1',
    convert_to(
        '{"actor":"anonymous","request_id":"' || md5(round || levels.sku) || '","quantity":1,"on_hand":'
        || levels.on_hand + round || ',"reserved":' || levels.reserved || '}', 'UTF8'
    ),
    head.position + (round - 1) * %(count)s + levels.number, greatest(clock_timestamp(), head.recorded_at)
FROM generate_series(1, %(rounds)s) AS round CROSS JOIN levels CROSS JOIN head
ORDER BY round, levels.number
"""
_LEVELS = """
UPDATE stock_levels SET
    on_hand = on_hand + %(rounds)s, version = version + %(rounds)s,
    updated_at = (SELECT max(recorded_at) FROM stored_events)
WHERE sku = ANY(%(skus)s)
"""


def grow(conn: psycopg.Connection[tuple[int]], schema: str, events: int) -> int:
    """Let the log grow to at least `events`; returns how many there are. The SKUs of SPREAD must have stock.

    `conn` is in autocommit mode and finds the ledger's tables.
    """
    while (missing := events - count(conn)) > 0:
        rounds = min(CHUNK_ROUNDS, -(-missing // len(SPREAD)))
        values = {"skus": list(SPREAD), "count": len(SPREAD), "rounds": rounds}
        with conn.transaction():
            conn.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(schema, "log")])
            conn.execute(_EVENTS, values)
            conn.execute(_LEVELS, values)
    conn.execute("VACUUM ANALYZE stored_events")
    conn.execute("VACUUM ANALYZE stock_levels")
    return count(conn)


def count(conn: psycopg.Connection[tuple[int]]) -> int:
    row = conn.execute("SELECT coalesce(max(notification_id), 0) FROM stored_events").fetchone()
    assert row is not None, "an aggregate has a row"
    return row[0]
