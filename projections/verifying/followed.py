"""The rows that the log makes of each following read model, up to where that model is."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Protocol

from msgspec import UNSET

from ledger.audit.replay import Seen
from ledger.catalogue.events import ProductRegistered, ProductRevised
from ledger.facts import Event
from ledger.items.events import ItemAdded, ItemPurchased, ItemReleased, ItemReserved, ItemReturned, ItemRevised
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
from projections.following.movements_daily import MOST
from projections.verifying.rows import to_row
from projections.verifying.tables import MOVEMENTS, VALUATIONS, VALUED_ITEMS, VALUED_PRODUCTS, Table

Put = Callable[[Table, bytes], None]

_COUNTS = MOVEMENTS.columns[2:]
_EVENTS, _RELEASED, _EXPIRED = (_COUNTS.index(column) for column in ("events", "released", "expired"))
_MOVES: dict[type[Event], int] = {
    event: _COUNTS.index(column)
    for event, column in (
        (StockAdded, "added"),
        (StockRemoved, "removed"),
        (StockReserved, "reserved"),
        (StockReleased, "released"),
        (StockPurchased, "purchased"),
        (StockReturned, "returned"),
        (ItemAdded, "added"),
        (ItemReserved, "reserved"),
        (ItemReleased, "released"),
        (ItemPurchased, "purchased"),
        (ItemReturned, "returned"),
    )
}


# The facts of stock that a valuation counts.
_BALANCES = {event for event in _MOVES if issubclass(event, StockEvent)}


class FollowedModel(Protocol):
    def take(self, seen: Sequence[Seen]) -> None: ...
    def end_day(self, day: date) -> None: ...
    def end(self) -> None: ...


class FollowedRows:
    """Given every event in order; `positions` says by name how far each model is, where its rows end too."""

    def __init__(self, put: Put, positions: Mapping[str, int]) -> None:
        made: dict[str, FollowedModel] = {"movements_daily": _Movements(put), "valuations_daily": _Valuations(put)}
        self._models = [(positions.get(name, 0), model) for name, model in made.items()]
        self._day = date.min
        self._midnight = datetime.min.replace(tzinfo=UTC)
        self._stop = min(position for position, _ in self._models)

    def take(self, seen: Sequence[Seen]) -> None:
        """Events go on to the models as many at a time as are of one day."""
        begin = 0
        for index, (entry, _, _) in enumerate(seen):
            if entry.position > self._stop or entry.recorded_at >= self._midnight:
                self._pass_on(seen[begin:index])
                begin = index
                if entry.position > self._stop:
                    self._end([pair for pair in self._models if pair[0] < entry.position])
                if entry.recorded_at >= self._midnight:
                    self._begin_day(entry.recorded_at.date())
        self._pass_on(seen[begin:])

    def end(self) -> None:
        """The log ends here."""
        self._end(self._models)

    def _pass_on(self, seen: Sequence[Seen]) -> None:
        for _, model in self._models:
            model.take(seen)

    def _begin_day(self, day: date) -> None:
        for _, model in self._models:
            model.end_day(self._day)
        self._day = day
        self._midnight = datetime.combine(day + timedelta(days=1), time(), UTC)

    def _end(self, models: Iterable[tuple[int, FollowedModel]]) -> None:
        over = list(models)
        for _, model in over:
            model.end_day(self._day)
            model.end()
        self._models = [pair for pair in self._models if pair not in over]
        self._stop = min((position for position, _ in self._models), default=2**63)


class _Movements:
    def __init__(self, put: Put) -> None:
        self._put = put
        self._counts: dict[str, list[int]] = {}

    def take(self, seen: Sequence[Seen]) -> None:
        of_sku, moves = self._counts, _MOVES
        for _, event, check in seen:
            counts = of_sku.get(check.sku)
            if counts is None:
                counts = of_sku[check.sku] = [0] * len(_COUNTS)
            counts[_EVENTS] += 1
            index = moves.get(type(event))
            if index is None:
                continue
            if index == _RELEASED and getattr(event, "cause", None) == "expired":
                index = _EXPIRED
            counts[index] += 1 if check.sn else event.quantity  # type: ignore[attr-defined]  # of an item: one piece

    def end_day(self, day: date) -> None:
        for sku, counts in self._counts.items():
            self._put(MOVEMENTS, to_row((day, sku, *[min(count, MOST) for count in counts])))
        self._counts.clear()

    def end(self) -> None:
        pass


class _Valued:
    """A SKU: its own price if it is fungible, else the sums of its items' prices."""

    __slots__ = ("kind", "on_hand", "on_hand_cents", "price", "reserved", "reserved_cents")

    def __init__(self, kind: str, price: int) -> None:
        self.kind, self.price = kind, price
        self.on_hand = self.reserved = self.on_hand_cents = self.reserved_cents = 0

    def columns(self) -> tuple[int, int, int, int]:
        if self.kind == "fungible":
            return self.on_hand, self.reserved, self.on_hand * self.price, self.reserved * self.price
        return self.on_hand, self.reserved, self.on_hand_cents, self.reserved_cents


class _Valuations:
    def __init__(self, put: Put) -> None:
        self._put = put
        self._products: dict[str, _Valued] = {}
        # (price, held, sold) by SKU and serial number
        self._items: dict[tuple[str, str], tuple[int, bool, bool]] = {}
        self._changed: set[str] = set()
        # Of stock only its last balance in a day is asked for.
        self._stock: dict[str, StockEvent] = {}

    def take(self, seen: Sequence[Seen]) -> None:
        stock = self._stock
        for _, event, check in seen:
            if type(event) in _BALANCES:
                stock[check.sku] = event  # type: ignore[assignment]
                continue
            if check.sku in stock:
                self._take(check.sku, "", stock.pop(check.sku))
            self._take(check.sku, check.sn, event)

    def _take(self, sku: str, sn: str, event: Event) -> None:
        product = self._products.get(sku)
        if product is None:
            kind, price = ("fungible", 0) if not sn else ("non-fungible", 0)
            product = self._products[sku] = _Valued(kind, price)
        if isinstance(event, StockEvent):
            product.on_hand, product.reserved = event.on_hand, event.reserved
            if type(event) is StockReservationExtended:
                return
        elif isinstance(event, ProductRegistered):
            product.kind, product.price = event.kind, event.unit_price_cents if event.kind == "fungible" else 0
        elif isinstance(event, ProductRevised):
            if event.unit_price_cents is UNSET or product.kind != "fungible":
                return
            product.price = event.unit_price_cents
        elif not self._take_item(product, (sku, sn), event):
            return
        self._changed.add(sku)

    def end_day(self, day: date) -> None:
        for sku, event in self._stock.items():
            self._take(sku, "", event)
        self._stock.clear()
        for sku in self._changed:
            self._put(VALUATIONS, to_row((sku, day, *self._products[sku].columns())))
        self._changed.clear()

    def end(self) -> None:
        for sku, product in self._products.items():
            self._put(VALUED_PRODUCTS, to_row((sku, product.kind, product.price, *product.columns())))
        for key, item in self._items.items():
            self._put(VALUED_ITEMS, to_row((*key, *item)))

    def _take_item(self, product: _Valued, key: tuple[str, str], event: Event) -> bool:
        """Whether it changes what the item is worth, or whether it is there or held."""
        before = self._items.get(key)
        price, held, sold = before or (0, False, True)
        after = _item_after(price, held, sold, event)
        if after == before:
            return False
        self._items[key] = after
        for state, sign in ((before, -1), (after, 1)):
            if state is not None:
                worth, is_held, is_sold = state
                product.on_hand += 0 if is_sold else sign
                product.on_hand_cents += 0 if is_sold else sign * worth
                product.reserved += sign if is_held else 0
                product.reserved_cents += sign * worth if is_held else 0
        return True


def _item_after(price: int, held: bool, sold: bool, event: Any) -> tuple[int, bool, bool]:
    match event:
        case ItemAdded():
            return event.price_cents, False, False
        case ItemRevised() if event.price_cents is not UNSET:
            return event.price_cents, held, sold
        case ItemReserved():
            return price, True, sold
        case ItemReleased():
            return price, False, sold
        case ItemPurchased():
            return price, False, True
        case ItemReturned():
            return price, False, False
    return price, held, sold
