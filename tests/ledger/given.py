"""Given facts, when a command, then exactly these events or this refusal: the words that rule tests are written in."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from ledger.catalogue.events import ProductRegistered
from ledger.catalogue.products import PRODUCTS
from ledger.commands import Command
from ledger.engine.decide import decide
from ledger.facts import Event, Fact
from ledger.items.items import ITEMS
from ledger.outcome import Outcome
from ledger.reservations.reservations import reservation_of
from ledger.rooms import ROOMS
from ledger.stock.events import StockAdded
from ledger.stock.levels import STOCK, Stock
from ledger.streams import parse_stream, product_stream, stock_stream
from ledger.unit_of_work import UnitOfWork

NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ID = UUID("00000000-0000-4000-8000-000000000001")
OTHER_ID = UUID("00000000-0000-4000-8000-000000000002")
PURCHASE_ID = UUID("00000000-0000-4000-8000-00000000000f")
BY: dict[str, Any] = {"actor": "anonymous", "request_id": "r"}
EXPIRED_BY: dict[str, Any] = {"actor": "expiry", "request_id": f"expire:{ID}"}


class History:
    """A unit of work that holds what the given facts make of it."""

    def __init__(self, facts: Iterable[Fact], *, at: datetime = NOW) -> None:
        self.work = UnitOfWork(at, 0, ROOMS.states)
        for fact in facts:
            self._load_stream(fact.stream)
            self.work.record([fact])
        self.before = len(self.work.entries)

    def when(self, command: Command, *, at: datetime = NOW) -> "History":
        """Decide the command at a time; raises what refuses it."""
        self.work.now = at
        self._load(command)
        self.before = len(self.work.entries)
        self.outcome: Outcome = decide(ROOMS, self.work, command)
        return self

    @property
    def then(self) -> list[tuple[str, Event]]:
        """What the last command made happen: (stream, event), in order."""
        return [(entry.stream, entry.event) for entry in self.work.entries[self.before :]]

    def _load_stream(self, stream: str) -> None:
        _, sku, sn = parse_stream(stream)
        self._load_sku(sku)
        if sn:
            self.work[ITEMS].setdefault((sku, sn), None)

    def _load(self, command: Command) -> None:
        for kind, keys in ROOMS.needs_of([command]):
            for key in keys:
                self.work[kind].setdefault(key, kind.absent(key))

    def _load_sku(self, sku: str) -> None:
        self.work[PRODUCTS].setdefault(sku, None)
        self.work[STOCK].setdefault(sku, Stock(sku))


def given(*facts: Fact, at: datetime = NOW) -> History:
    return History(facts, at=at)


def fungible(sku: str, on_hand: int = 0) -> list[Fact]:
    """A fungible product with so much on hand."""
    registered = Fact(product_stream(sku), ProductRegistered(kind="fungible", **BY))
    if not on_hand:
        return [registered]
    return [registered, stock(sku, StockAdded(quantity=on_hand, on_hand=on_hand, reserved=0, **BY))]


def stock(sku: str, event: Event) -> Fact:
    return Fact(stock_stream(sku), event)


def reservations_in(history: History) -> set[UUID]:
    return {i for entry in history.work.entries if (i := reservation_of(entry.event))}
