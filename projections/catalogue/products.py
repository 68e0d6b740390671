"""Read model `products`: what each SKU is."""

from collections.abc import Iterable

from msgspec.structs import astuple

from ledger.catalogue.products import PRODUCTS, Product
from ledger.store.connection import Connection
from ledger.store.roundtrip import RoundTrip
from ledger.unit_of_work import UnitOfWork
from projections.model import Fill, StateModel
from projections.rows import as_json, copy_in

COLUMNS = (
    "sku, kind, name, description, color, unit_price_cents, shipping_weight_grams, version, registered_at, updated_at"
)
COLUMNS_OF_P = ", ".join(f"p.{column}" for column in COLUMNS.split(", "))

_LOAD = f"SELECT {COLUMNS} FROM products WHERE sku = ANY($1)"
_SAVE = f"""
INSERT INTO products ({COLUMNS})
SELECT {COLUMNS} FROM json_to_recordset($1) AS new (
    sku text, kind text, name text, description text, color text, unit_price_cents bigint,
    shipping_weight_grams bigint, version bigint, registered_at timestamptz, updated_at timestamptz
)
ON CONFLICT (sku) DO UPDATE SET
    name = excluded.name,
    description = excluded.description,
    color = excluded.color,
    unit_price_cents = excluded.unit_price_cents,
    shipping_weight_grams = excluded.shipping_weight_grams,
    version = excluded.version,
    updated_at = excluded.updated_at
"""


def load(trip: RoundTrip, skus: Iterable[str]) -> Fill:
    wanted = list(skus)
    answer = trip.ask(_LOAD, wanted)

    def fill(work: UnitOfWork) -> None:
        found = {row[0]: Product(*row) for row in answer.rows()}
        for sku in wanted:
            work[PRODUCTS].setdefault(sku, found.get(sku))

    return fill


def save(trip: RoundTrip, products: Iterable[Product]) -> None:
    trip.ask(_SAVE, as_json(list(products)))


def bulk(conn: Connection, products: Iterable[Product]) -> None:
    """Add products that the table does not hold."""
    copy_in(conn, "products", COLUMNS, map(astuple, products))


MODEL: StateModel[str, Product] = StateModel("products", ("products",), PRODUCTS, load=load, write=save, bulk=bulk)
