"""Names of the streams that facts are kept in. They are part of history, so they never change.

A stream name is text, so that an auditor reads the log in plain SQL: `product/<sku>`,
`stock/<location>/<sku>`, `item/<sku>/<sn>`. SKU, serial number and location hold no `/`.
"""

from functools import lru_cache

# The one location there is today. It is in every name from the start: adding it later means rewriting history.
LOCATION = "main"

# A name is taken apart several times for each event, and most events are of few streams.
KNOWN_STREAMS = 20_000

_STOCK_PREFIX = f"stock/{LOCATION}/"


def product_stream(sku: str) -> str:
    return "product/" + sku


def stock_stream(sku: str) -> str:
    return _STOCK_PREFIX + sku


def item_stream(sku: str, sn: str) -> str:
    return f"item/{sku}/{sn}"


@lru_cache(maxsize=KNOWN_STREAMS)
def parse_stream(stream: str) -> tuple[str, str, str]:
    """Split a stream name into family, SKU and serial number (empty but for items).

    Raises ValueError for a name that no function above makes.
    """
    if stream.startswith(_STOCK_PREFIX) and "/" not in (sku := stream[len(_STOCK_PREFIX) :]):
        return "stock", sku, ""  # nearly all facts are of stock
    match stream.split("/"):
        case ["product", sku]:
            return "product", sku, ""
        case ["item", sku, sn]:
            return "item", sku, sn
    raise ValueError(f"not a stream of this ledger: {stream!r}")
