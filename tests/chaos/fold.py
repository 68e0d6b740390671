"""What the log says by arithmetic alone, and every sentence of it that cannot be true.

Written without the rules' code, so that a rule and its check cannot be wrong in the same way: an entry comes as plain
JSON, state is plain numbers, and nothing of `ledger` is imported.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

# What one unit of each event does to the balance: (on hand, reserved).
MOVES = {
    "StockAdded": (1, 0),
    "StockRemoved": (-1, 0),
    "StockReserved": (0, 1),
    "StockReleased": (0, -1),
    "StockPurchased": (-1, -1),
    "StockReturned": (1, 0),
    "StockReservationExtended": (0, 0),
}
LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Row(NamedTuple):
    """One entry of the log as SQL gives it."""

    position: int
    recorded_at: datetime
    stream: str
    version: int
    topic: str
    data: dict[str, Any]


@dataclass
class Level:
    on_hand: int = 0
    reserved: int = 0
    version: int = 0


@dataclass
class Piece:
    """An item; `held_by`, `since` and `until` are of the hold on it."""

    sold: bool = False
    sold_under: str | None = None
    held_by: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    version: int = 0


@dataclass
class Line:
    quantity: int
    released: int = 0
    purchased: int = 0
    returned: int = 0
    expired: int = 0
    again: int = 0

    @property
    def remaining(self) -> int:
        return self.quantity - self.released - self.purchased


@dataclass
class Hold:
    """A reservation; `lines` by (SKU, serial number or "")."""

    position: int
    owner: str | None
    reference: str | None
    created_at: datetime
    expires_at: datetime
    state: str = "open"
    ended_at: datetime | None = None
    lines: dict[tuple[str, str], Line] = field(default_factory=dict)


@dataclass
class Purchase:
    position: int
    requested_at: datetime
    reservation_id: str | None
    reference: str | None
    lines: list[dict[str, Any]] = field(default_factory=list)


class Fold:
    """The state after the entries applied so far; `broken` names what was wrong with them."""

    def __init__(self) -> None:
        self.position = 0
        self.stock: dict[str, Level] = {}
        self.items: dict[tuple[str, str], Piece] = {}
        self.holds: dict[str, Hold] = {}
        self.purchases: dict[str, Purchase] = {}
        self.kinds: dict[str, str] = {}
        self.broken: list[str] = []
        self._recorded_at = LONG_AGO
        self._versions: dict[str, int] = {}
        self._row: Row

    def apply(self, row: Row) -> None:
        self._row = row
        name = row.topic.removesuffix(".v1")
        family, *where = row.stream.split("/")
        self._check_place(row)
        if family == "product":
            self._product(where[0], name)
        elif family == "stock":
            self._stock(where[1], name)
        else:
            self._item(where[0], where[1], name)
        if row.data.get("reservation_id"):
            key = (where[1], "") if family == "stock" else (where[0], where[1])
            self._hold(key, name.removeprefix("Stock").removeprefix("Item"))
        if name.endswith("Purchased"):
            self._purchase(family, where)

    def need(self, holds: bool, sentence: str) -> None:
        if not holds:
            self.broken.append(f"position {self._row.position}, {self._row.topic} of {self._row.stream}: {sentence}")

    def _check_place(self, row: Row) -> None:
        self.need(row.position == self.position + 1, f"follows position {self.position}")
        self.need(row.recorded_at >= self._recorded_at, f"recorded before the entry before it, {self._recorded_at}")
        self.need(row.version == self._versions.get(row.stream, 0) + 1, f"version {row.version} is out of turn")
        self.position, self._recorded_at, self._versions[row.stream] = row.position, row.recorded_at, row.version

    def _product(self, sku: str, name: str) -> None:
        self.need((name == "ProductRegistered") == (sku not in self.kinds), "registered once, before all else")
        self.kinds.setdefault(sku, self._row.data.get("kind", ""))

    def _stock(self, sku: str, name: str) -> None:
        self.need(self.kinds.get(sku) == "fungible", "not a fungible product")
        level, data = self.stock.setdefault(sku, Level()), self._row.data
        on_hand, reserved = (unit * data["quantity"] for unit in MOVES[name])
        self.need(data["quantity"] > 0, "no positive quantity")
        expected = (level.on_hand + on_hand, level.reserved + reserved)
        said = (data["on_hand"], data["reserved"])
        self.need(said == expected, f"balance {said} does not follow from the one before, {expected} does")
        level.on_hand, level.reserved = said
        level.version = self._row.version
        self.need(0 <= level.reserved <= level.on_hand, f"oversold: {level.reserved} reserved of {level.on_hand}")

    def _item(self, sku: str, sn: str, name: str) -> None:
        self.need(self.kinds.get(sku) == "non-fungible", "not a non-fungible product")
        self.need((name == "ItemAdded") == ((sku, sn) not in self.items), "added once, before all else")
        item, data = self.items.setdefault((sku, sn), Piece()), self._row.data
        reservation_id = data.get("reservation_id")
        item.version = self._row.version
        if name == "ItemReserved":
            self.need(not item.sold and item.held_by is None, "reserved though sold or held")
            item.held_by, item.since, item.until = reservation_id, self._row.recorded_at, _time(data["expires_at"])
        elif name == "ItemReservationExtended":
            self.need(item.held_by == reservation_id, f"held by {item.held_by}")
            item.until = _time(data["expires_at"])
        elif name in ("ItemReleased", "ItemPurchased"):
            self.need(item.held_by == reservation_id, f"held by {item.held_by}")
            self.need(not item.sold, "sold already")
            item.held_by = item.since = item.until = None
            item.sold = name == "ItemPurchased"
            item.sold_under = reservation_id if item.sold else None
        elif name == "ItemReturned":
            self.need(item.sold and item.sold_under == reservation_id, f"sold under {item.sold_under}")
            item.sold, item.sold_under = False, None

    def _hold(self, key: tuple[str, str], deed: str) -> None:
        data, at = self._row.data, self._row.recorded_at
        quantity = data.get("quantity", 1)
        if deed == "Reserved":
            self._reserve(key, quantity)
            return
        hold = self.holds.get(data["reservation_id"])
        line = hold.lines.get(key) if hold else None
        if hold is None or line is None:
            self.need(False, "of a reservation that does not hold it")
            return
        if deed == "Returned":
            self.need(quantity <= line.purchased - line.returned, "more returned than purchased")
            line.returned += quantity
            return
        self.need(hold.state == "open", f"after the reservation's end: {hold.state}")
        self.need(quantity <= line.remaining, f"more than the {line.remaining} held")
        is_over = at >= hold.expires_at
        expires = deed == "Released" and data["cause"] == "expired"
        self.need(is_over == expires, f"over at {hold.expires_at}")
        if deed == "ReservationExtended":
            hold.expires_at = _time(data["expires_at"])
            self.need(hold.expires_at > at, "extended into the past")
            self.need(quantity == line.remaining, "extended for another quantity than is held")
            return
        self.need(not expires or quantity == line.remaining, "expired in part")
        line.released += quantity if deed == "Released" else 0
        line.expired += quantity if expires else 0
        line.purchased += quantity if deed == "Purchased" else 0
        if not any(line.remaining for line in hold.lines.values()):
            purchased = any(line.purchased for line in hold.lines.values())
            hold.state = "purchased" if purchased else "expired" if expires else "released"
            hold.ended_at = at

    def _reserve(self, key: tuple[str, str], quantity: int) -> None:
        data, at = self._row.data, self._row.recorded_at
        until = _time(data["expires_at"])
        if data.get("again"):
            self._hold_again(key, quantity, until)
            return
        new = Hold(self._row.position, data.get("owner"), data.get("reference"), at, until)
        hold = self.holds.setdefault(data["reservation_id"], new)
        self.need(until > at, "over before it began")
        self.need(hold.state == "open" and at < hold.expires_at, f"more is held after the end: {hold.state}")
        self.need(hold.expires_at == until, f"more is held until another time than {hold.expires_at}")
        self.need(hold.owner == data.get("owner"), f"more is held for another than {hold.owner}")
        hold.lines.setdefault(key, Line(0)).quantity += quantity

    def _hold_again(self, key: tuple[str, str], quantity: int, until: datetime) -> None:
        """Of an expired reservation: each line that had expired, for what it held then."""
        data, hold = self._row.data, self.holds.get(self._row.data["reservation_id"])
        line = hold.lines.get(key) if hold else None
        if hold is None or line is None:
            self.need(False, "held again though it never was held")
            return
        self.need(hold.state == "expired" or hold.expires_at == until, f"held again after another end: {hold.state}")
        self.need((quantity, 0) == (line.expired, line.again), f"{quantity} held again of {line.expired} that expired")
        self.need((hold.owner, hold.reference) == (data.get("owner"), data.get("reference")), "held again for another")
        hold.state, hold.expires_at, hold.ended_at = "open", until, None
        line.quantity += quantity
        line.again += quantity

    def _purchase(self, family: str, where: list[str]) -> None:
        row, data = self._row, self._row.data
        new = Purchase(row.position, row.recorded_at, data.get("reservation_id"), data.get("reference"))
        purchase = self.purchases.setdefault(data["purchase_id"], new)
        self.need(purchase.requested_at == row.recorded_at, "the purchase was made before")
        line = {"sku": where[1], "quantity": data["quantity"]} if family == "stock" else {"sku": where[0]}
        purchase.lines.append(line if family == "stock" else {**line, "sn": where[1]})


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
