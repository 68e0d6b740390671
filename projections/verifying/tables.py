"""The tables that are compared: their columns, their keys, and the stream that a row is about."""

from collections.abc import Callable, Mapping

from msgspec import Struct

from ledger.streams import item_stream, product_stream, stock_stream
from projections.catalogue import products
from projections.following import movements_daily
from projections.fulfilment import fulfilment_requests
from projections.items import items
from projections.reservations import reservations
from projections.stock import stock_levels

StreamOf = Callable[[Mapping[str, str]], str | None]


class Table(Struct, frozen=True):
    """The first `key` columns identify a row, the first `spread` of them choose its bucket.

    `stream_of` names the stream that a row is about, None if it is about none alone.
    """

    tag: bytes
    name: str
    columns: tuple[str, ...]
    key: int
    spread: int
    stream_of: StreamOf = lambda _: None

    def key_of(self, row: bytes) -> bytes:
        return _first(row, self.key)

    def spread_of(self, row: bytes) -> bytes:
        return _first(row, self.spread)


def _first(row: bytes, columns: int) -> bytes:
    end = row.index(b"\t")
    for _ in range(columns - 1):
        end = row.index(b"\t", end + 1)
    return row[:end]


def _of_line(row: Mapping[str, str]) -> str:
    return item_stream(row["sku"], row["sn"]) if row["sn"] else stock_stream(row["sku"])


def _columns(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


PRODUCTS = Table(b"p", "products", _columns(products.COLUMNS), 1, 1, lambda row: product_stream(row["sku"]))
STOCK_LEVELS = Table(b"s", "stock_levels", _columns(stock_levels.COLUMNS), 1, 1, lambda row: stock_stream(row["sku"]))
ITEMS = Table(b"i", "items", _columns(items.COLUMNS), 2, 2, lambda row: item_stream(row["sku"], row["sn"]))
RESERVATIONS = Table(b"r", "reservations", _columns(reservations.COLUMNS), 1, 1)
LINES = Table(b"l", "reservation_lines", _columns(reservations.LINE_COLUMNS), 2, 1, _of_line)
FULFILMENT_REQUESTS = Table(b"f", "fulfilment_requests", _columns(fulfilment_requests.COLUMNS), 1, 1)

INLINE = (PRODUCTS, STOCK_LEVELS, ITEMS, RESERVATIONS, LINES, FULFILMENT_REQUESTS)

MOVEMENTS = Table(b"m", "movements_daily", ("day", "sku", *movements_daily.COUNTED), 2, 2)
VALUATIONS = Table(
    b"v", "valuations_daily", _columns("sku, day, on_hand, reserved, on_hand_cents, reserved_cents"), 2, 2
)
VALUED_PRODUCTS = Table(
    b"P",
    "valued_products",
    _columns("sku, kind, unit_price_cents, on_hand, reserved, on_hand_cents, reserved_cents"),
    1,
    1,
)
VALUED_ITEMS = Table(b"I", "valued_items", _columns("sku, sn, price_cents, held, sold"), 2, 2)

FOLLOWING = (MOVEMENTS, VALUATIONS, VALUED_PRODUCTS, VALUED_ITEMS)
BY_TAG = {table.tag: table for table in INLINE + FOLLOWING}
