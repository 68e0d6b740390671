"""The running balance of a statement: what was on hand and reserved after each of its entries."""

from collections.abc import Sequence
from typing import NamedTuple

from ledger.facts import Entry
from ledger.items import items
from ledger.items.items import Item
from ledger.stock.events import StockEvent
from ledger.store.connection import BoundedConnection
from ledger.streams import parse_stream
from projections import as_of


class Line(NamedTuple):
    """An entry and the balance after it; an item is one unit, on hand until it is sold. Product facts move nothing."""

    entry: Entry
    quantity: int | None
    on_hand: int
    reserved: int


def running(conn: BoundedConnection, sku: str, sn: str | None, entries: Sequence[Entry]) -> list[Line]:
    """The balance after each of some consecutive entries of a statement, in the order of the log."""
    if not entries:
        return []
    before = entries[0].position - 1
    if sn is None:
        _, stock = as_of.fungible(conn, sku, before)
        return _of_stock(stock.on_hand, stock.reserved, entries)
    _, item = as_of.item(conn, sku, sn, before)
    return _of_item(item, entries)


def _of_stock(on_hand: int, reserved: int, entries: Sequence[Entry]) -> list[Line]:
    lines = []
    for entry in entries:
        quantity = None
        if isinstance(entry.event, StockEvent):
            quantity, on_hand, reserved = entry.event.quantity, entry.event.on_hand, entry.event.reserved
        lines.append(Line(entry, quantity, on_hand, reserved))
    return lines


def _of_item(item: Item | None, entries: Sequence[Entry]) -> list[Line]:
    lines = []
    for entry in entries:
        is_items = parse_stream(entry.stream)[0] == "item"
        item = items.evolve(item, entry) if is_items else item
        is_there, is_held = item is not None and not item.sold, item is not None and item.reservation_id is not None
        lines.append(Line(entry, 1 if is_items else None, int(is_there), int(is_held)))
    return lines
