"""A log of carts, written with COPY in the form in which the ledger would have written it, and no read model with it.

A million events take seconds; every stream keeps its versions and balances, so the rules could have made it.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from ledger.catalogue.events import ProductRegistered, ProductRevised
from ledger.facts import Entry, Event
from ledger.items.events import ItemAdded, ItemPurchased, ItemReleased, ItemReserved
from ledger.stock.events import StockAdded, StockPurchased, StockReleased, StockReserved, StockReturned
from ledger.store.hash_chain import BEGINNING, digests_after
from ledger.store.mapper import to_stored
from ledger.streams import item_stream, product_stream, stock_stream

SKUS = 1_000
ITEMS = 2_000
STOCK = 1_000_000
DAYS = 30
OPEN_CARTS = 2_000
_COPY = """
COPY stored_events (originator_id, originator_version, topic, state, notification_id, recorded_at, digest) FROM STDIN
"""
_BY: dict[str, Any] = {"actor": "bench", "request_id": "carts"}


def write(conn: psycopg.Connection[Any], events: int, seed: int = 5) -> int:
    """Fill an empty log with at least `events`; returns how many. `conn` finds the ledger's tables."""
    shop = _Shop(events, random.Random(seed))
    with conn.transaction(), conn.cursor() as cursor, cursor.copy(_COPY) as copy:
        digest = BEGINNING
        for entry in shop.entries():
            stored = to_stored(entry)
            (digest,) = digests_after(digest, entry.position - 1, entry.recorded_at, [stored])
            head = (stored.originator_id, stored.originator_version, stored.topic, stored.state)
            copy.write_row((*head, entry.position, entry.recorded_at, digest))
    conn.execute("VACUUM ANALYZE stored_events")
    return shop.position


class _Shop:
    """What the shop knows while it trades: balances and versions, and the carts that are open."""

    def __init__(self, events: int, chance: random.Random) -> None:
        self.position = 0
        self._events = events
        self._chance = chance
        self._now = datetime(2026, 10, 1, tzinfo=UTC)
        self._step = timedelta(days=DAYS) / events
        self._versions: dict[str, int] = {}
        self._levels = {f"cart-{number:05}": [0, 0] for number in range(SKUS)}
        self._free = [f"{number:06}" for number in range(ITEMS)]
        self._open: list[tuple[UUID, dict[str, int], str | None]] = []

    def entries(self) -> Iterator[Entry]:
        for sku in self._levels:
            yield self._entry(product_stream(sku), ProductRegistered(kind="fungible", unit_price_cents=250, **_BY))
            yield self._stock(sku, StockAdded, STOCK, STOCK, 0)
        yield self._entry(product_stream("piece"), ProductRegistered(kind="non-fungible", **_BY))
        for sn in self._free:
            yield self._entry(item_stream("piece", sn), ItemAdded(price_cents=100 + int(sn), **_BY))
        while self.position < self._events:
            yield from self._make()
            if len(self._open) > OPEN_CARTS:
                yield from self._end(*self._open.pop(self._chance.randrange(OPEN_CARTS)))
            if self._chance.random() < 0.001:
                sku = self._chance.choice(list(self._levels))
                revised = ProductRevised(unit_price_cents=self._chance.randrange(1_000), **_BY)
                yield self._entry(product_stream(sku), revised)

    def _make(self) -> Iterator[Entry]:
        cart = UUID(int=self._chance.getrandbits(128), version=4)
        until = self._now + timedelta(hours=1)
        numbers = {self._chance.randrange(SKUS) for _ in range(self._chance.randint(1, 4))}
        lines = {f"cart-{number:05}": self._chance.randint(1, 3) for number in sorted(numbers)}
        about = {"reservation_id": cart, "expires_at": until, "owner": f"customer-{self._chance.randrange(100_000)}"}
        for sku, quantity in lines.items():
            yield self._stock(sku, StockReserved, quantity, 0, quantity, **about)
        sn = self._free.pop() if self._free and self._chance.random() < 0.1 else None
        if sn is not None:
            yield self._entry(item_stream("piece", sn), ItemReserved(**about, **_BY))
        self._open.append((cart, lines, sn))

    def _end(self, cart: UUID, lines: dict[str, int], sn: str | None) -> Iterator[Entry]:
        end = self._chance.random()
        about: dict[str, Any] = {"reservation_id": cart}
        if end < 0.6:
            about["purchase_id"] = UUID(int=self._chance.getrandbits(128), version=4)
            for sku, quantity in lines.items():
                yield self._stock(sku, StockPurchased, quantity, -quantity, -quantity, **about)
            if sn is not None:
                yield self._entry(item_stream("piece", sn), ItemPurchased(**about, **_BY))
            if end < 0.03:
                sku, quantity = next(iter(lines.items()))
                yield self._stock(sku, StockReturned, quantity, quantity, 0, reservation_id=cart)
            return
        cause = "cancelled" if end < 0.8 else "expired"
        for sku, quantity in lines.items():
            yield self._stock(sku, StockReleased, quantity, 0, -quantity, cause=cause, **about)
        if sn is not None:
            yield self._entry(item_stream("piece", sn), ItemReleased(cause=cause, **about, **_BY))
            self._free.append(sn)

    def _stock(self, sku: str, event: type[Any], quantity: int, on_hand: int, reserved: int, **about: Any) -> Entry:
        level = self._levels[sku]
        level[0] += on_hand
        level[1] += reserved
        balance = {"quantity": quantity, "on_hand": level[0], "reserved": level[1]}
        return self._entry(stock_stream(sku), event(**balance, **about, **_BY))

    def _entry(self, stream: str, event: Event) -> Entry:
        self.position += 1
        self._now += self._step
        self._versions[stream] = self._versions.get(stream, 0) + 1
        return Entry(self.position, self._now, stream, self._versions[stream], event)
