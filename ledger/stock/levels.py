"""Stock of fungible products: how much there is, and how much of it is held.

The invariant behind every rule: 0 <= reserved <= on_hand <= 2^53 - 1.
"""

from datetime import datetime
from typing import Any

from msgspec import Struct

from ledger.facts import Entry, Event
from ledger.identifiers import MAX_INTEGER
from ledger.state import StateKind
from ledger.stock.errors import InsufficientStockError, Shortage, StockLimitError
from ledger.stock.events import StockAdded, StockEvent, StockRemoved
from ledger.streams import parse_stream, stock_stream


class Stock(Struct, frozen=True):
    """`version` counts the stock's own facts; 0 and no `updated_at` before the first."""

    sku: str
    on_hand: int = 0
    reserved: int = 0
    version: int = 0
    updated_at: datetime | None = None

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved


def add(stock: Stock, quantity: int, by: dict[str, Any]) -> StockAdded:
    """Raises StockLimitError when the level would exceed 2^53 - 1."""
    _check_limit(stock, quantity)
    return StockAdded(quantity=quantity, on_hand=stock.on_hand + quantity, reserved=stock.reserved, **by)


def remove(stock: Stock, quantity: int, by: dict[str, Any]) -> StockRemoved:
    """Raises InsufficientStockError when less is available: what is reserved cannot be removed."""
    if quantity > stock.available:
        raise InsufficientStockError([shortage(stock, quantity)])
    return StockRemoved(quantity=quantity, on_hand=stock.on_hand - quantity, reserved=stock.reserved, **by)


def set_level(stock: Stock, level: int, by: dict[str, Any]) -> list[Event]:
    """Record the difference to `level`, nothing if there is none; raises InsufficientStockError below what is held."""
    if level > stock.on_hand:
        return [add(stock, level - stock.on_hand, by)]
    if level < stock.on_hand:
        return [remove(stock, stock.on_hand - level, by)]
    return []


def put_back(stock: Stock, quantity: int) -> int:
    """The level after `quantity` came back; raises StockLimitError."""
    _check_limit(stock, quantity)
    return stock.on_hand + quantity


def shortage(stock: Stock, requested: int) -> Shortage:
    return Shortage(stock.sku, requested, stock.available, stock.reserved)


def evolve(stock: Stock, entry: Entry) -> Stock:
    """Every stock event carries the balance after it."""
    event = entry.event
    if not isinstance(event, StockEvent):
        raise TypeError(f"not a fact of stock {entry.stream}: {event!r}")
    return Stock(stock.sku, event.on_hand, event.reserved, entry.version, entry.recorded_at)


STOCK: StateKind[str, Stock] = StateKind(
    "stock",
    evolve,
    Stock,
    family="stock",
    key_of_stream=lambda stream: parse_stream(stream)[1],
    stream_of=stock_stream,
    balance=StockEvent,
)


def _check_limit(stock: Stock, quantity: int) -> None:
    if stock.on_hand + quantity > MAX_INTEGER:
        raise StockLimitError(stock.sku, MAX_INTEGER)
