"""What a product, its stock, an item or a reservation was at a past position: from the log alone, no table of its own.

Nothing is adjusted by the clock here: what is told is what the log said then.
"""

from uuid import UUID

from ledger.catalogue import products
from ledger.catalogue.products import Product
from ledger.items import items
from ledger.items.items import Item
from ledger.reservations import reservations
from ledger.reservations.reservations import Reservation
from ledger.stock import levels
from ledger.stock.levels import Stock
from ledger.store import point_in_time
from ledger.store.connection import BoundedConnection
from ledger.streams import item_stream, product_stream, stock_stream


def fungible(conn: BoundedConnection, sku: str, position: int) -> tuple[Product | None, Stock]:
    """The product, of whatever kind, and its stock. The last fact of a stock holds its balance: one look-up."""
    last = point_in_time.last_entry(conn, stock_stream(sku), position)
    level = Stock(sku) if last is None else levels.evolve(Stock(sku), last)
    return point_in_time.fold(conn, product_stream(sku), position, products.evolve), level


def item(conn: BoundedConnection, sku: str, sn: str, position: int) -> tuple[Product | None, Item | None]:
    """The product, of whatever kind, and the item."""
    found = point_in_time.fold(conn, item_stream(sku, sn), position, items.evolve)
    return point_in_time.fold(conn, product_stream(sku), position, products.evolve), found


def reservation(conn: BoundedConnection, reservation_id: UUID, position: int) -> Reservation | None:
    return point_in_time.fold_reservation(conn, reservation_id, position, reservations.evolve)
