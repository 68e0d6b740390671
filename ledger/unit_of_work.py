"""The books: the working copy that one transaction decides on. What was loaded, plus what was decided since."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from ledger.catalogue import products
from ledger.catalogue.products import Product
from ledger.facts import Entry, Fact
from ledger.items import items
from ledger.items.items import Item
from ledger.reservations import reservations
from ledger.reservations.reservations import Reservation
from ledger.stock import levels
from ledger.stock.levels import Stock
from ledger.streams import parse_stream


class UnitOfWork:
    """`now` is the database's clock (UTC) under the lock; `position` is that of the last entry in the log.

    A key that is present with None was looked up and is not there. A key that is missing was never loaded: a rule that
    asks for it raises KeyError, which is a defect, rather than take it for absent.
    """

    def __init__(self, now: datetime, position: int) -> None:
        self.now = now
        self.position = position
        self.products: dict[str, Product | None] = {}
        self.stock: dict[str, Stock] = {}
        self.items: dict[tuple[str, str], Item | None] = {}
        self.reservations: dict[UUID, Reservation | None] = {}
        self.entries: list[Entry] = []

    def copy(self) -> "UnitOfWork":
        """The same books, to go on from or to go back to: what they hold is never changed in place."""
        copy = UnitOfWork(self.now, self.position)
        copy.products, copy.stock = dict(self.products), dict(self.stock)
        copy.items, copy.reservations = dict(self.items), dict(self.reservations)
        copy.entries = list(self.entries)
        return copy

    def record(self, facts: Iterable[Fact]) -> None:
        """Give facts their place in the log and carry them into the state."""
        for fact in facts:
            entry = Entry(self.position + 1, self.now, fact.stream, self._version(fact) + 1, fact.event)
            self.apply(entry)
            self.entries.append(entry)

    def apply(self, entry: Entry) -> None:
        """Carry one entry into the state; its stream must have been loaded."""
        family, sku, sn = parse_stream(entry.stream)
        event = entry.event
        if family == "stock":
            self.stock[sku] = levels.evolve(self.stock[sku], entry)
        elif family == "product":
            self.products[sku] = products.evolve(self.products[sku], entry)
        else:
            self.items[sku, sn] = items.evolve(self.items[sku, sn], entry)
        reservation_id = reservations.reservation_of(event)
        if reservation_id is not None:
            # A new reservation's id may be of our own making, and then nobody looked it up.
            self.reservations[reservation_id] = reservations.evolve(self.reservations.get(reservation_id), entry)
        self.position = entry.position

    def _version(self, fact: Fact) -> int:
        family, sku, sn = parse_stream(fact.stream)
        state: Stock | Product | Item | None
        if family == "stock":
            state = self.stock[sku]
        elif family == "product":
            state = self.products[sku]
        else:
            state = self.items[sku, sn]
        return 0 if state is None else state.version
