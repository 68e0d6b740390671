"""Read model `stock_levels`: how much of each fungible SKU is on hand and reserved.

Queries join it with `products`. They show holds as over once they are over by the clock, as every rule does, even
in the moment before that is written down; the table itself is a function of the events alone.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from ledger.books import Books
from ledger.products import Product
from ledger.stock import Stock
from ledger.store.connection import Connection
from projections import products
from projections.rows import HEAD, as_json

COLUMNS = "sku, on_hand, reserved, version, updated_at"

_LOAD = f"SELECT {COLUMNS} FROM stock_levels WHERE sku = ANY(%s)"
_LOAD_HELD = f"""
SELECT {COLUMNS} FROM stock_levels
WHERE sku IN (SELECT sku FROM reservation_lines WHERE reservation_id = ANY(%s) AND sn = '')
"""
_SAVE = f"""
INSERT INTO stock_levels ({COLUMNS})
SELECT {COLUMNS} FROM json_to_recordset(%s) AS new (
    sku text, on_hand bigint, reserved bigint, version bigint, updated_at timestamptz
)
ON CONFLICT (sku) DO UPDATE SET
    on_hand = excluded.on_hand,
    reserved = excluded.reserved,
    version = excluded.version,
    updated_at = excluded.updated_at
"""


def ask(conn: Connection, skus: Iterable[str]) -> Callable[[Books], None]:
    wanted = list(skus)
    cursor = conn.execute(_LOAD, [wanted])

    def fill(books: Books) -> None:
        found = {row[0]: Stock(*row) for row in cursor}
        for sku in wanted:
            books.stock.setdefault(sku, found.get(sku) or Stock(sku))

    return fill


def ask_held(conn: Connection, reservations: Sequence[UUID]) -> Callable[[Books], None]:
    """Load the stock of all SKUs that the reservations hold."""
    cursor = conn.execute(_LOAD_HELD, [reservations])

    def fill(books: Books) -> None:
        for row in cursor:
            books.stock.setdefault(row[0], Stock(*row))

    return fill


def save(conn: Connection, levels: Iterable[Stock]) -> None:
    conn.execute(_SAVE, [as_json(list(levels))])


_OVERDUE = """
    SELECT sum(remaining)::bigint AS quantity FROM reservation_lines AS l
    WHERE l.sku = p.sku AND l.sn = '' AND l.remaining > 0 AND l.expires_at <= statement_timestamp()
"""
_STOCK = "coalesce(s.on_hand, 0), coalesce(s.reserved, 0) - coalesce(overdue.quantity, 0), coalesce(s.version, 0)"
_GET = f"""
SELECT head.position, {products.COLUMNS_OF_P}, {_STOCK}, s.updated_at
FROM {HEAD} AS head
LEFT JOIN products AS p ON p.sku = %s
LEFT JOIN stock_levels AS s ON s.sku = p.sku
LEFT JOIN LATERAL ({_OVERDUE}) AS overdue ON true
"""
_PAGE = f"""
SELECT head.position, {products.COLUMNS_OF_P}, {_STOCK}, s.updated_at
FROM {HEAD} AS head
LEFT JOIN (
    SELECT * FROM products WHERE kind = 'fungible' AND sku > %s ORDER BY sku LIMIT %s
) AS p ON true
LEFT JOIN stock_levels AS s ON s.sku = p.sku
LEFT JOIN LATERAL ({_OVERDUE}) AS overdue ON true
ORDER BY p.sku
"""


class Fungible(NamedTuple):
    product: Product
    stock: Stock


def get(conn: Connection, sku: str) -> tuple[int, Product | None, Stock]:
    """The log position, the product of whatever kind, and its stock."""
    row = conn.execute(_GET, [sku]).fetchone()
    assert row is not None, "the head is there even if the product is not"
    if row[1] is None:
        return row[0], None, Stock(sku)
    return row[0], Product(*row[1:11]), Stock(sku, *row[11:])


def page(conn: Connection, after: str, limit: int) -> tuple[int, list[Fungible]]:
    """The log position, and fungible products in order of their SKU."""
    rows = conn.execute(_PAGE, [after, limit]).fetchall()
    found = [Fungible(Product(*row[1:11]), Stock(row[1], *row[11:])) for row in rows if row[1] is not None]
    return rows[0][0], found
