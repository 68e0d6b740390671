"""The SQL schema of views for reporting jobs, with what each view and column means written in the database itself.

Columns are a promise: new ones may be added at the end, none is renamed or removed. Views read with their owner's
rights, so the reporting role sees these and no table.
"""

import hashlib
import logging
from collections.abc import Mapping

from msgspec import Struct
from psycopg import sql

from ledger.store.connection import Connection
from ledger.store.roles import reporting_role, reporting_schema
from projections.reporting import stock_report
from projections.reservations.reservations import STATE
from projections.rows import HEAD

logger = logging.getLogger(__name__)


class View(Struct, frozen=True):
    """`columns` are in the order of the query's, each with its meaning."""

    name: str
    comment: str
    columns: Mapping[str, str]
    query: str


_BY_THE_CLOCK = "A hold counts as over once it is by the clock, even before the log says so."

VIEWS = (
    View(
        "stock",
        f"What there is of each product now. {_BY_THE_CLOCK}",
        {
            "sku": "The product.",
            "name": "Its short name; null if it has none.",
            "kind": "fungible (a quantity) or non-fungible (items with serial numbers).",
            "amount_in_stock": "Units on hand, held ones among them; items not sold.",
            "reserved_quantity": "Units on hold.",
            "available_quantity": "Units that can be reserved or removed.",
            "unit_price_cents": "Price of one unit; null for non-fungible products, whose items have their own.",
            "value_cents": "What the units on hand are worth.",
        },
        stock_report.NOW,
    ),
    View(
        "products",
        "What each SKU is.",
        {
            "sku": "The product.",
            "kind": "fungible or non-fungible.",
            "name": "Its short name.",
            "description": "Its description.",
            "color": "Its color.",
            "unit_price_cents": "Price of one unit; of no meaning for non-fungible products.",
            "shipping_weight_grams": "Weight of one unit.",
            "registered_at": "When it was first recorded.",
            "updated_at": "When it was last changed; its stock is not meant.",
        },
        "SELECT sku, kind, name, description, color, unit_price_cents, shipping_weight_grams, registered_at, updated_at"
        " FROM products",
    ),
    View(
        "items",
        f"Each item of the non-fungible products. {_BY_THE_CLOCK}",
        {
            "sku": "The product.",
            "sn": "The item's serial number, unique within its SKU.",
            "color": "Its color.",
            "notes": "Its notes.",
            "price_cents": "Its price.",
            "sold": "Whether it was purchased and has not come back.",
            "reservation_id": "The reservation that holds it; null if none does.",
            "reserved_at": "Since when it is held.",
            "reserved_until": "When the hold ends by itself.",
            "updated_at": "When it was last changed.",
        },
        "SELECT i.sku, i.sn, i.color, i.notes, i.price_cents, i.sold, h.reservation_id, h.reserved_at,"
        " h.reserved_until, i.updated_at FROM items AS i LEFT JOIN LATERAL"
        " (SELECT i.reservation_id, i.reserved_at, i.reserved_until WHERE i.reserved_until > now()) AS h ON true",
    ),
    View(
        "reservations",
        f"Each reservation and what became of it. {_BY_THE_CLOCK}",
        {
            "reservation_id": "The reservation.",
            "position": "Position in the log of its first event: the order in which reservations were made.",
            "state": "open, released, expired or purchased.",
            "owner": "For whom it was made, as the caller said.",
            "reference": "The caller's reference.",
            "created_at": "When it was made.",
            "expires_at": "When it ends by itself, or would have.",
            "ended_at": "When it ended as the log says; null while it is open there.",
        },
        f"SELECT reservation_id, position, {STATE.format(now='now()')}, owner, reference, created_at, expires_at,"
        " ended_at FROM reservations",
    ),
    View(
        "reservation_lines",
        "What each reservation is of, as the log says. quantity = released + purchased + remaining.",
        {
            "reservation_id": "The reservation.",
            "line": "Number of the line, from 0.",
            "sku": "The product.",
            "sn": "The item's serial number; null for a quantity.",
            "quantity": "Units reserved.",
            "released": "Units given back, or whose time was over.",
            "purchased": "Units bought.",
            "returned": "Bought units that came back.",
            "remaining": "Units still held.",
        },
        "SELECT reservation_id, line, sku, nullif(sn, ''), quantity, released, purchased, returned, remaining"
        " FROM reservation_lines",
    ),
    View(
        "fulfilment_requests",
        "One row for each purchase, in the order of position.",
        {
            "purchase_id": "The purchase.",
            "position": "Position in the log of its first event.",
            "requested_at": "When it was bought.",
            "reservation_id": "The reservation that was bought; null for an item sold without one.",
            "owner": "For whom the reservation was made.",
            "reference": "The purchase's reference, else the reservation's.",
            "lines": 'What was bought: [{"sku", "quantity"} or {"sku", "sn"}].',
        },
        "SELECT purchase_id, position, requested_at, reservation_id, owner, reference, lines FROM fulfilment_requests",
    ),
    View(
        "movements_daily",
        "Units that moved, by day and SKU; an item is one unit. Follows the log: see the view following.",
        {
            "day": "UTC date on which the events were recorded.",
            "sku": "The product.",
            "added": "Units that came into stock.",
            "removed": "Units that left stock other than by purchase.",
            "reserved": "Units put on hold.",
            "released": "Held units given back.",
            "expired": "Held units whose time was over.",
            "purchased": "Units bought.",
            "returned": "Bought units that came back.",
            "events": "Events of the SKU of whatever kind.",
        },
        "SELECT day, sku, added, removed, reserved, released, expired, purchased, returned, events"
        " FROM movements_daily",
    ),
    View(
        "valuations_daily",
        "What the stock was worth at the end of a day. A row for each day on which the SKU's stock, items or price "
        "changed; until its next row the last one holds. Follows the log: see the view following.",
        {
            "sku": "The product.",
            "day": "UTC date.",
            "amount_in_stock": "Units on hand at the end of that day.",
            "reserved_quantity": "Of these on hold, until the log says that the hold is over.",
            "value_cents": "What the units on hand are worth at the prices of the end of that day.",
            "reserved_value_cents": "What the units on hold are worth at the prices of the end of that day.",
        },
        "SELECT sku, day, on_hand, reserved, on_hand_cents, reserved_cents FROM valuations_daily",
    ),
    View(
        "shortages_daily",
        "Reservations that could not be made in full, by day and SKU: counters, not facts of the log.",
        {
            "day": "UTC date of the refusal.",
            "sku": "The product that there was not enough of.",
            "requests": "Requests that were short of it; a repeat counts again.",
            "requested": "Units that they asked for.",
            "short": "Units of these that were not available.",
        },
        "SELECT day, sku, requests, requested, short FROM shortages_daily",
    ),
    View(
        "events",
        "The log: every fact in the order in which it was recorded, never changed.",
        {
            "position": "Its place in the log, from 1 without gaps.",
            "recorded_at": "When it was recorded, by the database's clock; never runs backwards along position.",
            "stream": "What it is about: product/SKU, stock/main/SKU or item/SKU/SERIAL NUMBER.",
            "version": "Its place in its stream, from 1 without gaps.",
            "event": "What happened, such as StockReserved.v1.",
            "data": "Its members: quantity, balance (on_hand, reserved), actor, request_id, reason, ...",
        },
        "SELECT notification_id, recorded_at, originator_id, originator_version, topic,"
        " convert_from(state, 'UTF8')::jsonb FROM stored_events",
    ),
    View(
        "following",
        "How far the views that follow the log are; all others are always current.",
        {
            "name": "The view.",
            "position": "It reflects the log up to this position.",
            "events_behind": "Events that it does not reflect yet.",
            "updated_at": "When it last moved.",
            "error": "Why it stands still; null while it runs.",
        },
        f"SELECT f.name, f.position, head.position - f.position, f.updated_at, f.error"
        f" FROM following AS f CROSS JOIN {HEAD} AS head",
    ),
)

_COMMENT_OF = """
SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s
"""
_MARK = "Stock, reservations and the log of ledger {schema}, for reporting jobs: views with a promise. Definition "
_HAS_ROLE = "SELECT 1 FROM pg_roles WHERE rolname = %s"


def ensure(conn: Connection, schema: str) -> None:
    """Make the views unless they are there as this version of the service has them; in a transaction."""
    if _comment(conn, schema) != _mark(schema):
        define(conn, schema)


def define(conn: Connection, schema: str) -> None:
    """Make the views anew, as after a table they read was replaced; call it in a transaction.

    Does nothing but warn where the schema of that name is somebody else's.
    """
    where = reporting_schema(schema)
    if not drop(conn, schema):
        logger.warning("schema %s is not this ledger's, so there are no views for reporting jobs", where)
        return
    statements = [sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(where))]
    for view in VIEWS:
        statements += _definition(where, schema, view)
    mark = sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(where), sql.Literal(_mark(schema)))
    statements.append(mark)
    role = reporting_role(schema)
    if conn.execute(_HAS_ROLE, [role]).fetchone():
        for grant in ("GRANT USAGE ON SCHEMA {} TO {}", "GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}"):
            statements.append(sql.SQL(grant).format(sql.Identifier(where), sql.Identifier(role)))
    conn.execute(sql.SQL("; ").join(statements), prepare=False)


def drop(conn: Connection, schema: str) -> bool:
    """Drop the views; False if the schema that they would be in is there and not this ledger's."""
    where = reporting_schema(schema)
    row = conn.execute(_COMMENT_OF, [where]).fetchone()
    if row is None:
        return True
    if not (row[0] or "").startswith(_MARK.format(schema=schema)):
        return False
    views = sql.SQL(", ").join(sql.Identifier(where, view.name) for view in VIEWS)
    conn.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(views), prepare=False)
    return True


def _comment(conn: Connection, schema: str) -> str | None:
    row = conn.execute(_COMMENT_OF, [reporting_schema(schema)]).fetchone()
    return None if row is None else row[0]


def _mark(schema: str) -> str:
    """What tells our schema from others, and one definition from the next."""
    return _MARK.format(schema=schema) + hashlib.sha256(repr(VIEWS).encode()).hexdigest()[:16]


def _definition(where: str, schema: str, view: View) -> list[sql.Composed]:
    name = sql.Identifier(where, view.name)
    columns = sql.SQL(", ").join(sql.Identifier(column) for column in view.columns)
    create = sql.SQL("CREATE VIEW {} ({}) AS {}").format(name, columns, sql.SQL(view.query))
    comments = [sql.SQL("COMMENT ON VIEW {} IS {}").format(name, sql.Literal(view.comment))]
    for column, meaning in view.columns.items():
        which = sql.Identifier(where, view.name, column)
        comments.append(sql.SQL("COMMENT ON COLUMN {} IS {}").format(which, sql.Literal(meaning)))
    return [create, *comments]
