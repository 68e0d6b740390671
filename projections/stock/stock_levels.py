"""Read model `stock_levels`: how much of each fungible SKU is on hand and reserved.

Queries join it with `products`. They show holds as over once they are over by the clock, as every rule does, even
in the moment before that is written down; the table itself is a function of the events alone.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec.structs import astuple

from ledger.catalogue.products import Product
from ledger.stock.levels import STOCK, Stock
from ledger.store.connection import BoundedConnection, Connection
from ledger.store.roundtrip import RoundTrip, ask_one
from ledger.unit_of_work import UnitOfWork
from projections.catalogue import products
from projections.model import Fill, StateModel
from projections.rows import HEAD, NAMED, Named, as_json, copy_in

COLUMNS = "sku, on_hand, reserved, version, updated_at"

_LOAD = f"SELECT {COLUMNS} FROM stock_levels WHERE sku = ANY($1)"
_LOAD_HELD = f"""
SELECT {COLUMNS} FROM stock_levels
WHERE sku IN (SELECT sku FROM reservation_lines WHERE sn = '' AND reservation_id IN ({NAMED}))
"""
_SAVE = f"""
INSERT INTO stock_levels ({COLUMNS})
SELECT {COLUMNS} FROM json_to_recordset($1) AS new (
    sku text, on_hand bigint, reserved bigint, version bigint, updated_at timestamptz
)
ON CONFLICT (sku) DO UPDATE SET
    on_hand = excluded.on_hand,
    reserved = excluded.reserved,
    version = excluded.version,
    updated_at = excluded.updated_at
"""


def load(trip: RoundTrip, skus: Iterable[str]) -> Fill:
    wanted = list(skus)
    answer = trip.ask(_LOAD, wanted)

    def fill(work: UnitOfWork) -> None:
        found = {row[0]: Stock(*row) for row in answer.rows()}
        for sku in wanted:
            work[STOCK].setdefault(sku, found.get(sku) or Stock(sku))

    return fill


def load_held(trip: RoundTrip, named: Named) -> Fill:
    """Load the stock of all SKUs that the named reservations hold."""
    answer = trip.ask(_LOAD_HELD, *named)

    def fill(work: UnitOfWork) -> None:
        for row in answer.rows():
            work[STOCK].setdefault(row[0], Stock(*row))

    return fill


def save(trip: RoundTrip, levels: Iterable[Stock]) -> None:
    trip.ask(_SAVE, as_json(list(levels)))


def bulk(conn: Connection, levels: Iterable[Stock]) -> None:
    """Add levels that the table does not hold."""
    copy_in(conn, "stock_levels", COLUMNS, map(astuple, levels))


_OVERDUE = """
    SELECT sum(remaining)::bigint AS quantity FROM reservation_lines AS l
    WHERE l.sku = p.sku AND l.sn = '' AND l.remaining > 0 AND l.expires_at <= statement_timestamp()
"""
_STOCK = (
    "coalesce(overdue.quantity, 0), coalesce(s.on_hand, 0),"
    " coalesce(s.reserved, 0) - coalesce(overdue.quantity, 0), coalesce(s.version, 0)"
)
_FIND = f"""
SELECT head.position, {products.COLUMNS_OF_P}, {_STOCK}, s.updated_at
FROM {HEAD} AS head
LEFT JOIN products AS p ON p.sku = ANY($1)
LEFT JOIN stock_levels AS s ON s.sku = p.sku
LEFT JOIN LATERAL ({_OVERDUE}) AS overdue ON true
"""
_PAGE = f"""
SELECT head.position, {products.COLUMNS_OF_P}, {_STOCK}, s.updated_at
FROM {HEAD} AS head
LEFT JOIN (
    SELECT * FROM products WHERE kind = 'fungible' AND sku > $1 ORDER BY sku LIMIT $2
) AS p ON true
LEFT JOIN stock_levels AS s ON s.sku = p.sku
LEFT JOIN LATERAL ({_OVERDUE}) AS overdue ON true
ORDER BY p.sku
"""


class Fungible(NamedTuple):
    product: Product
    stock: Stock


class Found(NamedTuple):
    """`lapsed` of the stock are free by the clock alone: their hold is over, which is not written down yet."""

    position: int
    product: Product | None
    stock: Stock
    lapsed: int


def find(conn: BoundedConnection, skus: Sequence[str]) -> dict[str, Found]:
    """For each SKU the log position, the product of whatever kind, and its stock."""
    rows = ask_one(conn, _FIND, skus)
    position = rows[0][0]  # the head is there even if no product is
    found = {sku: Found(position, None, Stock(sku), 0) for sku in skus}
    for row in rows:
        if row[1] is not None:
            found[row[1]] = Found(position, Product(*row[1:11]), Stock(row[1], *row[12:]), row[11])
    return found


def page(conn: BoundedConnection, after: str, limit: int) -> tuple[int, list[Fungible]]:
    """The log position, and fungible products in order of their SKU."""
    rows = ask_one(conn, _PAGE, after, limit)
    found = [Fungible(Product(*row[1:11]), Stock(row[1], *row[12:])) for row in rows if row[1] is not None]
    return rows[0][0], found


MODEL: StateModel[str, Stock] = StateModel("stock_levels", ("stock_levels",), STOCK, load=load, write=save, bulk=bulk)
