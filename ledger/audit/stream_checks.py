"""One stream each of a replay: its state, and the rules that its own facts must keep.

Each has the `version` and `position` of its last fact. `known` is false when something before is missing or cannot be
read: the next fact is then taken as it is.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from msgspec import UNSET

from ledger.audit.findings import Findings
from ledger.audit.hold_checks import Holds, Moment
from ledger.catalogue import products
from ledger.catalogue.events import Kind, ProductRegistered, ProductRevised
from ledger.catalogue.products import Product
from ledger.facts import Entry, Event
from ledger.identifiers import MAX_INTEGER
from ledger.items import items
from ledger.items.events import (
    ItemAdded,
    ItemPurchased,
    ItemReleased,
    ItemReservationExtended,
    ItemReserved,
    ItemReturned,
    ItemRevised,
)
from ledger.items.items import Item
from ledger.stock.events import (
    StockAdded,
    StockEvent,
    StockPurchased,
    StockReleased,
    StockRemoved,
    StockReservationExtended,
    StockReserved,
    StockReturned,
)

# What one unit of each fact does to what is on hand and to what is reserved.
_EFFECTS: dict[type[Event], tuple[int, int]] = {
    StockAdded: (1, 0),
    StockRemoved: (-1, 0),
    StockReserved: (0, 1),
    StockReleased: (0, -1),
    StockPurchased: (-1, -1),
    StockReturned: (1, 0),
    StockReservationExtended: (0, 0),
}
_PRODUCT_MEMBERS = ("name", "description", "color", "unit_price_cents", "shipping_weight_grams")
_ITEM_MEMBERS = ("color", "notes", "price_cents")
_AMOUNTS = {"unit_price_cents", "shipping_weight_grams", "price_cents"}


class ProductCheck:
    __slots__ = ("known", "position", "product", "sku", "version")
    sn = ""

    def __init__(self, sku: str) -> None:
        self.sku = sku
        self.version = self.position = 0
        self.known = True
        self.product: Product | None = None

    def take(self, entry: Moment, event: Event, findings: Findings) -> bool:
        """Check a fact and carry it; returns whether it is a fact of a product at all."""
        if isinstance(event, ProductRegistered):
            if self.product is not None:
                findings.at(entry, "registered-again", "ProductRegistered once", "a second one")
        elif not isinstance(event, ProductRevised):
            findings.at(entry, "wrong-stream", "a fact of a product", type(event).__name__)
            self.known = False
            return False
        elif self.product is None:
            if self.known:
                findings.at(entry, "not-registered", "ProductRegistered first", "ProductRevised")
                self.known = False
            return True
        else:
            _check_revision(entry, event, self.product if self.known else None, _PRODUCT_MEMBERS, findings)
        _check_amounts(entry, event, _PRODUCT_MEMBERS, findings)
        self.product = products.evolve(self.product, _as_entry(entry, event))
        self.known = True
        return True

    def check(self, entry: Moment, kind: Kind, findings: Findings) -> None:
        """Stock or items of it are about to be recorded."""
        if self.product is None:
            if self.known:  # else that was told
                findings.at(entry, "not-registered", f"a {kind} product, registered before", "none")
                self.known = False
        elif self.product.kind != kind:
            findings.at(entry, "other-kind", f"a {kind} product", f"a {self.product.kind} one")


class StockCheck:
    """`doubt` is the balance that the fact before should have left, if it said otherwise: the next may follow either.

    So one wrong balance, and one wrong quantity, is one finding.
    """

    __slots__ = ("doubt", "known", "on_hand", "position", "product", "reserved", "sku", "updated_at", "version")
    sn = ""

    def __init__(self, sku: str, product: ProductCheck) -> None:
        self.sku = sku
        self.product = product
        self.version = self.position = self.on_hand = self.reserved = 0
        self.known = True
        self.doubt: tuple[int, int] | None = None
        self.updated_at: datetime | None = None

    def take(self, entry: Moment, event: Event, findings: Findings) -> bool:
        """Check a fact and carry it; returns whether it is a fact of stock at all."""
        per_unit = _EFFECTS.get(type(event))
        if per_unit is None or not isinstance(event, StockEvent):
            findings.at(entry, "wrong-stream", "a fact of stock", type(event).__name__)
            self.known = False
            return False
        if self.updated_at is None or self.product.product is None:
            self.product.check(entry, "fungible", findings)
        quantity, on_hand, reserved = event.quantity, event.on_hand, event.reserved
        due_on_hand, due_reserved = self.on_hand + per_unit[0] * quantity, self.reserved + per_unit[1] * quantity
        if (due_on_hand != on_hand or due_reserved != reserved) and self.known:
            self._doubt(entry, (on_hand, reserved), (due_on_hand, due_reserved), per_unit, quantity, findings)
        elif self.doubt is not None:
            self.doubt = None
        if not 0 <= reserved <= on_hand <= MAX_INTEGER:
            findings.at(entry, "oversold", f"0 <= reserved <= on_hand <= {MAX_INTEGER}", _balance((on_hand, reserved)))
        if not 1 <= quantity <= MAX_INTEGER:
            findings.at(entry, "quantity", f"1 to {MAX_INTEGER}", quantity)
        self.on_hand, self.reserved, self.updated_at, self.known = on_hand, reserved, entry.recorded_at, True
        return True

    def _doubt(
        self,
        entry: Moment,
        found: tuple[int, int],
        due: tuple[int, int],
        per_unit: tuple[int, int],
        quantity: int,
        findings: Findings,
    ) -> None:
        other, self.doubt = self.doubt, None
        if other is not None:
            from_other = other[0] + per_unit[0] * quantity, other[1] + per_unit[1] * quantity
            if from_other == found:
                return
        self.doubt = due
        was = f"after {_balance((self.on_hand, self.reserved))}"
        findings.at(entry, "balance", f"{_balance(due)}, {was}", _balance(found))


class ItemCheck:
    __slots__ = ("item", "known", "position", "product", "sku", "sn", "version")

    def __init__(self, sku: str, sn: str, product: ProductCheck) -> None:
        self.sku, self.sn = sku, sn
        self.product = product
        self.version = self.position = 0
        self.known = True
        self.item: Item | None = None

    def take(self, entry: Moment, event: Event, findings: Findings) -> bool:
        """Check a fact and carry it; returns whether it can be one of this item at all."""
        if isinstance(event, ItemAdded):
            self.product.check(entry, "non-fungible", findings)
            if self.item is not None:
                findings.at(entry, "item-added-again", "ItemAdded once", "a second one")
        elif not isinstance(event, _OF_ITEMS):
            findings.at(entry, "wrong-stream", "a fact of an item", type(event).__name__)
            self.known = False
            return False
        elif self.item is None:
            if self.known:  # else something before is missing, which was told
                findings.at(entry, "item-unknown", "ItemAdded first", type(event).__name__)
                self.known = False
            return True
        elif self.known:
            _check_item(entry, event, self.item, findings)
        _check_amounts(entry, event, _ITEM_MEMBERS, findings)
        self.item = items.evolve(self.item, _as_entry(entry, event))
        self.known = True
        return True


_OF_ITEMS = (ItemRevised, ItemReserved, ItemReservationExtended, ItemReleased, ItemPurchased, ItemReturned)


def pass_on(holds: Holds, entry: Moment, event: Event, before: int) -> None:
    """Tell the reservation that a fact is about, if any; `before` is the position of the entry before."""
    if type(event) in _HANDLERS and getattr(event, "reservation_id", None) is not None:
        quantity = event.quantity if isinstance(event, StockEvent) else 1
        _HANDLERS[type(event)](holds, entry, event, quantity, before)


_HANDLERS: dict[type[Event], Callable[[Holds, Moment, Any, int, int], None]] = {
    StockReserved: Holds.reserve,
    StockReleased: Holds.release,
    StockPurchased: Holds.purchase,
    StockReturned: Holds.give_back,
    StockReservationExtended: Holds.extend,
    ItemReserved: Holds.reserve,
    ItemReleased: Holds.release,
    ItemPurchased: Holds.purchase,
    ItemReturned: Holds.give_back,
    ItemReservationExtended: Holds.extend,
}


def _check_item(entry: Moment, event: Event, item: Item, findings: Findings) -> None:
    held = item.reservation_id
    match event:
        case ItemRevised():
            _check_revision(entry, event, item, _ITEM_MEMBERS, findings)
        case ItemReserved():
            if item.sold:
                findings.at(entry, "item-sold", "an item that is not sold", "a sold one")
            if held is not None:
                findings.at(entry, "item-held", "a free item", f"held by reservation {held}")
        case ItemReservationExtended() | ItemReleased():
            if held != event.reservation_id:
                findings.at(entry, "item-not-held", f"held by reservation {event.reservation_id}", f"by {held}")
        case ItemPurchased():
            if item.sold:
                findings.at(entry, "item-sold", "an item that is not sold", "a sold one")
            if held != event.reservation_id:
                findings.at(entry, "item-not-held", f"held by reservation {event.reservation_id}", f"by {held}")
        case ItemReturned():
            if not item.sold:
                findings.at(entry, "item-not-sold", "a sold item", "one that is not")
            elif item.sold_under != event.reservation_id:
                under = f"sold under reservation {item.sold_under}"
                findings.at(entry, "item-not-sold", under, f"returned under {event.reservation_id}")


def _check_revision(
    entry: Moment, event: Event, state: Product | Item | None, members: tuple[str, ...], findings: Findings
) -> None:
    """A revision holds what changes, and nothing else."""
    given = {member: value for member in members if (value := getattr(event, member)) is not UNSET}
    same = [name for name, value in given.items() if state is not None and getattr(state, name) == value]
    if same or not given:
        findings.at(entry, "nothing-changed", "members that change", f"{', '.join(same) or 'none'} as before")


def _check_amounts(entry: Moment, event: Event, members: tuple[str, ...], findings: Findings) -> None:
    for member in members:
        if member in _AMOUNTS:
            value = getattr(event, member, 0)
            if value is not UNSET and not 0 <= value <= MAX_INTEGER:
                findings.at(entry, "amount", f"{member} from 0 to {MAX_INTEGER}", value)


def _as_entry(entry: Moment, event: Event) -> Entry:
    return Entry(entry.position, entry.recorded_at, entry.stream, entry.version, event)


def _balance(pair: tuple[int, int]) -> str:
    return f"on_hand {pair[0]}, reserved {pair[1]}"
