"""Read model `valuations_daily`, which follows the log: what each SKU's stock was worth at the end of each UTC day.

A fungible SKU is worth its units times its price at the end of the day, an item its own price. The model goes on from
what it remembers itself (`valued_products`, `valued_items`), not from the inline read models, which are ahead of it.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import date
from typing import cast

from msgspec import UNSET, Struct, structs

from ledger.catalogue.events import Kind, ProductRegistered, ProductRevised
from ledger.facts import Entry, Event
from ledger.items.events import (
    ItemAdded,
    ItemPurchased,
    ItemReleased,
    ItemReservationExtended,
    ItemReserved,
    ItemReturned,
    ItemRevised,
)
from ledger.stock.events import StockEvent, StockReservationExtended
from ledger.store.connection import BoundedConnection
from ledger.store.roundtrip import RoundTrip
from ledger.streams import parse_stream
from projections.rows import as_json

TABLES = ("valuations_daily", "valued_products", "valued_items")

_LOAD_PRODUCTS = """
SELECT sku, kind, unit_price_cents, on_hand, reserved, on_hand_cents, reserved_cents
FROM valued_products WHERE sku = ANY($1)
"""
_LOAD_ITEMS = """
SELECT sku, sn, price_cents, held, sold FROM valued_items
WHERE (sku, sn) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""
_SAVE_PRODUCTS = """
INSERT INTO valued_products (sku, kind, unit_price_cents, on_hand, reserved, on_hand_cents, reserved_cents)
SELECT sku, kind, unit_price_cents, on_hand, reserved, on_hand_cents, reserved_cents
FROM json_to_recordset($1) AS new (
    sku text, kind text, unit_price_cents bigint, on_hand bigint, reserved bigint, on_hand_cents numeric,
    reserved_cents numeric
)
ON CONFLICT (sku) DO UPDATE SET
    unit_price_cents = excluded.unit_price_cents,
    on_hand = excluded.on_hand,
    reserved = excluded.reserved,
    on_hand_cents = excluded.on_hand_cents,
    reserved_cents = excluded.reserved_cents
"""
_SAVE_ITEMS = """
INSERT INTO valued_items (sku, sn, price_cents, held, sold)
SELECT sku, sn, price_cents, held, sold
FROM json_to_recordset($1) AS new (sku text, sn text, price_cents bigint, held boolean, sold boolean)
ON CONFLICT (sku, sn) DO UPDATE SET
    price_cents = excluded.price_cents,
    held = excluded.held,
    sold = excluded.sold
"""
_SAVE_DAYS = """
INSERT INTO valuations_daily (sku, day, on_hand, reserved, on_hand_cents, reserved_cents)
SELECT sku, $2, on_hand, reserved, on_hand_cents, reserved_cents
FROM json_to_recordset($1) AS new (
    sku text, on_hand bigint, reserved bigint, on_hand_cents numeric, reserved_cents numeric
)
ON CONFLICT (sku, day) DO UPDATE SET
    on_hand = excluded.on_hand,
    reserved = excluded.reserved,
    on_hand_cents = excluded.on_hand_cents,
    reserved_cents = excluded.reserved_cents
"""


class _Product(Struct):
    """A SKU and what its stock is worth; changed in place."""

    sku: str
    kind: Kind
    unit_price_cents: int = 0
    on_hand: int = 0
    reserved: int = 0
    on_hand_cents: int = 0
    reserved_cents: int = 0

    def set_level(self, on_hand: int, reserved: int) -> None:
        self.on_hand, self.reserved = on_hand, reserved
        self.on_hand_cents, self.reserved_cents = on_hand * self.unit_price_cents, reserved * self.unit_price_cents

    def replace(self, before: "_Item | None", after: "_Item") -> None:
        """Take one state of an item out of the sums, and another in."""
        for item, sign in ((before, -1), (after, 1)):
            if item is not None and not item.sold:
                self.on_hand += sign
                self.on_hand_cents += sign * item.price_cents
            if item is not None and item.held:
                self.reserved += sign
                self.reserved_cents += sign * item.price_cents


class _Item(Struct, frozen=True):
    sku: str
    sn: str
    price_cents: int
    held: bool = False
    sold: bool = False


class _State:
    """What the entries of a batch are about: as it was remembered, then as they leave it."""

    def __init__(self, conn: BoundedConnection, names: Collection[tuple[str, str, str]]) -> None:
        keys = sorted({(sku, sn) for family, sku, sn in names if family == "item"})
        trip = RoundTrip(conn)
        products = trip.ask(_LOAD_PRODUCTS, sorted({sku for _, sku, _ in names}))
        items = trip.ask(_LOAD_ITEMS, [sku for sku, _ in keys], [sn for _, sn in keys])
        trip.go()
        self.products = {row[0]: _Product(*row[:5], *map(int, row[5:])) for row in products.rows()}
        self.items = {(row[0], row[1]): _Item(*row) for row in items.rows()}

    def apply(self, event: Event, sku: str, sn: str) -> bool:
        """Whether the event, not one of stock, is one that changes the items or the price."""
        if isinstance(event, ProductRegistered):
            price = event.unit_price_cents if event.kind == "fungible" else 0
            self.products[sku] = _Product(sku, event.kind, price)
        elif isinstance(event, ProductRevised):
            product = self.products[sku]
            if event.unit_price_cents is UNSET or product.kind != "fungible":
                return False
            product.unit_price_cents = event.unit_price_cents
            product.set_level(product.on_hand, product.reserved)
        else:
            before = self.items.get((sku, sn))
            after = self.items[sku, sn] = _evolve(before, event, sku, sn)
            if after == before:
                return False
            self.products[sku].replace(before, after)
        return True

    def save(self, conn: BoundedConnection, day: date, changed: Collection[str]) -> None:
        """In order of their keys, as everybody who locks many rows does."""
        products = [self.products[sku] for sku in sorted(changed)]
        trip = RoundTrip(conn)
        trip.ask(_SAVE_PRODUCTS, as_json(products))
        if self.items:
            trip.ask(_SAVE_ITEMS, as_json([self.items[key] for key in sorted(self.items)]))
        trip.ask(_SAVE_DAYS, as_json(products), day)
        trip.go()


def apply(conn: BoundedConnection, entries: Sequence[Entry]) -> None:
    """Carry `entries` into the rows; the caller's transaction sees to it that each entry is applied once."""
    days: dict[date, list[Entry]] = defaultdict(list)
    for entry in entries:
        days[entry.recorded_at.date()].append(entry)
    for day, of_day in days.items():
        _apply(conn, day, of_day)


def _apply(conn: BoundedConnection, day: date, entries: Sequence[Entry]) -> None:
    names = [parse_stream(entry.stream) for entry in entries]
    state = _State(conn, set(names))
    changed = set()
    levels: dict[str, StockEvent] = {}  # the last one counts: it carries the balance
    for entry, (family, sku, sn) in zip(entries, names, strict=True):
        event = entry.event
        if family != "stock":
            if state.apply(event, sku, sn):
                changed.add(sku)
        elif type(event) is not StockReservationExtended:
            levels[sku] = cast(StockEvent, event)
    for sku, level in levels.items():
        state.products[sku].set_level(level.on_hand, level.reserved)
    state.save(conn, day, changed.union(levels))


def _evolve(item: _Item | None, event: Event, sku: str, sn: str) -> _Item:
    if isinstance(event, ItemAdded):
        return _Item(sku, sn, event.price_cents)
    if item is None:
        raise TypeError(f"the first fact of an item must be ItemAdded, not {event!r}")
    match event:
        case ItemRevised():
            return item if event.price_cents is UNSET else structs.replace(item, price_cents=event.price_cents)
        case ItemReserved():
            return structs.replace(item, held=True)
        case ItemReservationExtended():
            return item
        case ItemReleased():
            return structs.replace(item, held=False)
        case ItemPurchased():
            return structs.replace(item, held=False, sold=True)
        case ItemReturned():
            return structs.replace(item, held=False, sold=False)
    raise TypeError(f"not a fact of an item: {event!r}")
