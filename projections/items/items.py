"""Read model `items`: each item with its serial number, the hold on it, and whether it is sold.

Queries show a hold as over once it is over by the clock, as every rule does, even in the moment before that is
written down; the table itself is a function of the events alone.
"""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import astuple

from ledger.catalogue.products import Product
from ledger.items.items import ITEMS, Item
from ledger.store.connection import BoundedConnection, Connection
from ledger.store.roundtrip import RoundTrip, ask_one
from ledger.unit_of_work import UnitOfWork
from projections.catalogue import products
from projections.model import Fill, StateModel
from projections.rows import HEAD, NAMED, SNAPSHOT, Named, as_json, copy_in

COLUMNS = (
    "sku, sn, color, notes, price_cents, sold, version, updated_at,"
    " reservation_id, reserved_at, reserved_until, sold_under"
)

_LOAD = f"""
SELECT {COLUMNS} FROM items WHERE (sku, sn) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""
_LOAD_HELD = f"""
SELECT {COLUMNS} FROM items
WHERE (sku, sn) IN (SELECT sku, sn FROM reservation_lines WHERE sn <> '' AND reservation_id IN ({NAMED}))
"""
_SAVE = f"""
INSERT INTO items ({COLUMNS})
SELECT {COLUMNS} FROM json_to_recordset($1) AS new (
    sku text, sn text, color text, notes text, price_cents bigint, sold boolean, version bigint,
    updated_at timestamptz, reservation_id uuid, reserved_at timestamptz, reserved_until timestamptz, sold_under uuid
)
ON CONFLICT (sku, sn) DO UPDATE SET
    color = excluded.color,
    notes = excluded.notes,
    price_cents = excluded.price_cents,
    sold = excluded.sold,
    version = excluded.version,
    updated_at = excluded.updated_at,
    reservation_id = excluded.reservation_id,
    reserved_at = excluded.reserved_at,
    reserved_until = excluded.reserved_until,
    sold_under = excluded.sold_under
"""


def load(trip: RoundTrip, keys: Iterable[tuple[str, str]]) -> Fill:
    wanted = list(keys)
    answer = trip.ask(_LOAD, [sku for sku, _ in wanted], [sn for _, sn in wanted])

    def fill(work: UnitOfWork) -> None:
        found = {(row[0], row[1]): Item(*row) for row in answer.rows()}
        for key in wanted:
            work[ITEMS].setdefault(key, found.get(key))

    return fill


def load_held(trip: RoundTrip, named: Named) -> Fill:
    """Load all items that are lines of the named reservations."""
    answer = trip.ask(_LOAD_HELD, *named)

    def fill(work: UnitOfWork) -> None:
        for row in answer.rows():
            work[ITEMS].setdefault((row[0], row[1]), Item(*row))

    return fill


def save(trip: RoundTrip, items: Iterable[Item]) -> None:
    trip.ask(_SAVE, as_json(list(items)))


def bulk(conn: Connection, items: Iterable[Item]) -> None:
    """Add items that the table does not hold."""
    copy_in(conn, "items", COLUMNS, map(astuple, items))


_SHOWN = (
    "i.sku, i.sn, i.color, i.notes, i.price_cents, i.sold, i.version, i.updated_at,"
    " CASE WHEN i.reserved_until > statement_timestamp() THEN i.reservation_id END,"
    " CASE WHEN i.reserved_until > statement_timestamp() THEN i.reserved_at END,"
    " CASE WHEN i.reserved_until > statement_timestamp() THEN i.reserved_until END,"
    " i.sold_under"
)
_GET = f"""
SELECT head.position, {products.COLUMNS_OF_P}, {_SHOWN}, coalesce(i.reserved_until <= statement_timestamp(), false)
FROM {HEAD} AS head
LEFT JOIN products AS p ON p.sku = $1
LEFT JOIN items AS i ON i.sku = p.sku AND i.sn = $2
"""
_PAGE = f"SELECT {_SHOWN} FROM items AS i WHERE i.sku = $1 AND i.sn > $2 ORDER BY i.sn LIMIT $3"
_COUNTS = """
    SELECT
        count(*) AS total,
        count(*) FILTER (WHERE sold) AS sold,
        count(*) FILTER (WHERE reserved_until > statement_timestamp()) AS reserved
    FROM items WHERE items.sku = p.sku
"""
_PRODUCT = f"""
SELECT head.position, {products.COLUMNS_OF_P}, counts.total, counts.sold, counts.reserved
FROM {HEAD} AS head
LEFT JOIN products AS p ON p.sku = $1
LEFT JOIN LATERAL ({_COUNTS}) AS counts ON true
"""
_PRODUCTS = f"""
SELECT head.position, {products.COLUMNS_OF_P}, counts.total, counts.sold, counts.reserved
FROM {HEAD} AS head
LEFT JOIN (
    SELECT * FROM products WHERE kind = 'non-fungible' AND sku > $1 ORDER BY sku LIMIT $2
) AS p ON true
LEFT JOIN LATERAL ({_COUNTS}) AS counts ON true
ORDER BY p.sku
"""


class Counted(NamedTuple):
    """A non-fungible product with the number of its items: all, sold, and reserved."""

    product: Product
    total: int
    sold: int
    reserved: int


def get(conn: BoundedConnection, sku: str, sn: str) -> tuple[int, Product | None, Item | None, bool]:
    """The log position, the product of whatever kind, the item, and whether it counts as free by the clock alone."""
    (row,) = ask_one(conn, _GET, sku, sn)  # the head is there even if the item is not
    product = Product(*row[1:11]) if row[1] is not None else None
    return row[0], product, Item(*row[11:-1]) if row[11] is not None else None, row[-1]


def page(conn: BoundedConnection, sku: str, after: str, limit: int) -> tuple[int, Counted | None, list[Item]]:
    """The log position, the product of whatever kind, and its items in order of their serial number."""
    trip = RoundTrip(conn)
    trip.ask(SNAPSHOT)
    product, page_of_items = trip.ask(_PRODUCT, sku), trip.ask(_PAGE, sku, after, limit)
    trip.ask("COMMIT")
    trip.go()
    (row,), found = product.rows(), [Item(*item) for item in page_of_items.rows()]
    return row[0], Counted(Product(*row[1:11]), *row[11:]) if row[1] is not None else None, found


def products_page(conn: BoundedConnection, after: str, limit: int) -> tuple[int, list[Counted]]:
    """The log position, and non-fungible products in order of their SKU."""
    rows = ask_one(conn, _PRODUCTS, after, limit)
    return rows[0][0], [Counted(Product(*row[1:11]), *row[11:]) for row in rows if row[1] is not None]


MODEL: StateModel[tuple[str, str], Item] = StateModel("items", ("items",), ITEMS, load=load, write=save, bulk=bulk)
