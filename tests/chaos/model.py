"""The ledger as a person would keep it on paper: plain numbers, one rule after another, no log and no database.

Holds that are over end by themselves the moment that the clock says so. Every command is answered by the slug that
refuses it, or None. Written from the API's text, not from the rules' code.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from msgspec import UNSET

from ledger.commands import Command
from ledger.items.commands import PutItem
from ledger.reservations.commands import (
    ChangeReservation,
    ExtendReservation,
    Line,
    MakeReservation,
    PurchaseReservation,
    ReleaseItem,
    ReleaseReservation,
    ReserveItem,
    ReturnPurchase,
)
from ledger.stock.commands import AddStock, PutFungible, RemoveStock

LARGEST = 2**53 - 1

Key = tuple[str, str | None]


@dataclass
class Held:
    quantity: int
    released: int = 0
    purchased: int = 0
    returned: int = 0
    expired: int = 0

    @property
    def remaining(self) -> int:
        return self.quantity - self.released - self.purchased

    def shown_released(self, sn: str | None) -> int:
        """An item is one unit, however often it was given back and held again."""
        return self.released if sn is None else max(0, 1 - self.remaining - self.purchased)


@dataclass
class Hold:
    expires: int
    content: object
    lines: dict[Key, Held]
    state: str = "open"


@dataclass
class Item:
    sold: bool = False
    held_by: UUID | None = None
    sold_under: UUID | None = None


@dataclass
class Model:
    now: int = 0
    levels: dict[str, list[int]] = field(default_factory=dict)
    pieces: dict[str, dict[str, Item]] = field(default_factory=dict)
    holds: dict[UUID, Hold] = field(default_factory=dict)

    def advance(self, seconds: int) -> None:
        self.now += seconds
        for hold in self.holds.values():
            if hold.state == "open" and hold.expires <= self.now:
                for key, held in hold.lines.items():
                    held.expired = held.remaining
                    self._release(key, held, held.remaining)
                self._settle(hold, "expired")

    def handle(self, command: Command) -> str | None:
        match command:
            case PutFungible():
                return self._put(command)
            case AddStock():
                return self._kind(command.sku, None) or self._add(command.sku, command.quantity)
            case RemoveStock():
                return self._kind(command.sku, None) or self._remove(command.sku, command.quantity)
            case PutItem():
                return self._put_item(command)
            case ReserveItem():
                return self._kind(command.sku, command.sn) or self._reserve_item(command)
            case ReleaseItem():
                return self._kind(command.sku, command.sn) or self._release_item(command.sku, command.sn)
            case MakeReservation():
                refusals = (self._kind(line.sku, line.sn) for line in command.lines)
                return next(filter(None, refusals), None) or self._make(command)
            case ChangeReservation():
                return self._change(command)
            case ReleaseReservation() | ExtendReservation() | PurchaseReservation() | ReturnPurchase():
                hold = self.holds.get(command.reservation_id)
                return "unknown-reservation" if hold is None else self._on_hold(hold, command)
        raise TypeError(f"no rule for {command!r}")

    def level(self, sku: str) -> tuple[int, int] | None:
        """On hand and reserved."""
        on_hand_and_held = self.levels.get(sku)
        return None if on_hand_and_held is None else (on_hand_and_held[0], on_hand_and_held[1])

    def _kind(self, sku: str, sn: str | None) -> str | None:
        """What refuses a command on something that is not there or of the other kind."""
        there, other = (self.levels, self.pieces) if sn is None else (self.pieces, self.levels)
        if sku not in there:
            return "other-kind" if sku in other else "unknown-product"
        return "unknown-item" if sn is not None and sn not in self.pieces[sku] else None

    def _free(self, sku: str) -> int:
        on_hand, reserved = self.levels[sku]
        return on_hand - reserved

    def _put(self, command: PutFungible) -> str | None:
        if command.sku in self.pieces:
            return "other-kind"
        on_hand, reserved = self.levels.get(command.sku, (0, 0))
        if command.amount_in_stock is not UNSET:
            if command.amount_in_stock < reserved:
                return "insufficient-stock"
            on_hand = command.amount_in_stock
        self.levels[command.sku] = [on_hand, reserved]
        return None

    def _add(self, sku: str, quantity: int) -> str | None:
        if self.levels[sku][0] + quantity > LARGEST:
            return "stock-limit"
        self.levels[sku][0] += quantity
        return None

    def _remove(self, sku: str, quantity: int) -> str | None:
        if quantity > self._free(sku):
            return "insufficient-stock"
        self.levels[sku][0] -= quantity
        return None

    def _put_item(self, command: PutItem) -> str | None:
        if command.sku in self.levels:
            return "other-kind"
        item = self.pieces.setdefault(command.sku, {}).setdefault(command.sn, Item())
        if command.sold is True and not item.sold:
            if item.held_by is None:
                item.sold = True
            else:
                self._buy(self.holds[item.held_by], (command.sku, command.sn))
        elif command.sold is False and item.sold:
            if item.sold_under is not None:
                self.holds[item.sold_under].lines[command.sku, command.sn].returned += 1
            item.sold, item.sold_under = False, None
        return None

    def _reserve_item(self, command: ReserveItem) -> str | None:
        item = self.pieces[command.sku][command.sn]
        hold = self.holds.get(command.reservation_id)
        if hold is not None:
            if hold.state != "open":
                return "reservation-ended"
            if item.held_by != command.reservation_id:
                return "reservation-id-taken"
            hold.expires = self.now + command.ttl_seconds
            return None
        if item.sold or item.held_by:
            return "already-sold" if item.sold else "already-reserved"
        self._hold(command.reservation_id, [Line(command.sku, 1, command.sn)], command.ttl_seconds, None)
        return None

    def _release_item(self, sku: str, sn: str) -> str | None:
        item = self.pieces[sku][sn]
        if item.sold:
            return "already-sold"
        if item.held_by is not None:
            hold = self.holds[item.held_by]
            self._release((sku, sn), hold.lines[sku, sn], 1)
            self._settle(hold, "released")
        return None

    def _make(self, command: MakeReservation) -> str | None:
        content = (command.lines, command.ttl_seconds, command.partial)
        if command.reservation_id in self.holds:
            there = self.holds[command.reservation_id]
            if there.content != content:
                return "reservation-id-taken"
            return "reservation-ended" if there.state in ("released", "expired") else None
        obtained = [Line(line.sku, min(line.quantity, self._obtainable(line)), line.sn) for line in command.lines]
        got = [line for line in obtained if line.quantity]
        if got != list(command.lines) and not (command.partial and got):
            return "insufficient-stock"
        self._hold(command.reservation_id, got, command.ttl_seconds, content)
        return None

    def _obtainable(self, line: Line) -> int:
        if line.sn is None:
            return self._free(line.sku)
        item = self.pieces[line.sku][line.sn]
        return 0 if item.sold or item.held_by else 1

    def _hold(self, reservation_id: UUID, lines: Iterable[Line], ttl_seconds: int, content: object) -> None:
        hold = Hold(self.now + ttl_seconds, content, {(line.sku, line.sn): Held(line.quantity) for line in lines})
        self.holds[reservation_id] = hold
        for (sku, sn), held in hold.lines.items():
            if sn is None:
                self.levels[sku][1] += held.quantity
            else:
                self.pieces[sku][sn].held_by = reservation_id

    def _on_hold(self, hold: Hold, command: Command) -> str | None:
        if isinstance(command, ReturnPurchase):
            return self._take_back(hold, command.lines)
        if isinstance(command, ReleaseReservation) and command.lines is None:
            return self._release_all(hold)
        if hold.state == "expired" and isinstance(command, PurchaseReservation) and command.rehold_seconds:
            return self._buy_again(hold, command)
        if hold.state != "open":
            return "reservation-ended"
        if isinstance(command, ReleaseReservation):
            return self._release_part(hold, command.lines or ())
        if isinstance(command, ExtendReservation):
            hold.expires = self.now + command.ttl_seconds
        elif isinstance(command, PurchaseReservation) and command.lines is not None:
            return self._buy_part(hold, command.lines)
        else:
            for key in hold.lines:
                self._buy(hold, key)
        return None

    def _release_all(self, hold: Hold) -> str | None:
        if hold.state == "purchased":
            return "reservation-ended"
        if hold.state == "open":
            for key, held in hold.lines.items():
                self._release(key, held, held.remaining)
            self._settle(hold, "released")
        return None

    def _release_part(self, hold: Hold, lines: Iterable[Line]) -> str | None:
        wanted = [((line.sku, line.sn), line.quantity) for line in lines]
        if any(key not in hold.lines or quantity > hold.lines[key].remaining for key, quantity in wanted):
            return "not-held"
        for key, quantity in wanted:
            self._release(key, hold.lines[key], quantity)
        self._settle(hold, "released")
        return None

    def _buy_part(self, hold: Hold, lines: Iterable[Line]) -> str | None:
        wanted = [((line.sku, line.sn), line.quantity) for line in lines]
        if any(key not in hold.lines or quantity > hold.lines[key].remaining for key, quantity in wanted):
            return "not-held"
        for key, quantity in wanted:
            self._buy(hold, key, quantity)
        return None

    def _buy_again(self, hold: Hold, command: PurchaseReservation) -> str | None:
        """All of it must be there, then of that what is asked for."""
        expired = {key: held.expired for key, held in hold.lines.items() if held.expired}
        if any(self._obtainable(Line(sku, units, sn)) < units for (sku, sn), units in expired.items()):
            return "insufficient-stock"
        wanted = {(line.sku, line.sn): line.quantity for line in command.lines or ()} or expired
        if any(units > expired.get(key, 0) for key, units in wanted.items()):
            return "not-held"
        hold.state, hold.expires = "open", self.now + (command.rehold_seconds or 0)
        for key, units in expired.items():
            hold.lines[key].quantity += units
            if key[1] is None:
                self.levels[key[0]][1] += units
            else:
                self.pieces[key[0]][key[1]].held_by = command.reservation_id
        for key, units in wanted.items():
            self._buy(hold, key, units)
        return None

    def _change(self, command: ChangeReservation) -> str | None:
        """Give all back on paper, see whether the lines are there, and hold them."""
        hold = self.holds.get(command.reservation_id)
        if hold is None:
            return "unknown-reservation"
        if hold.state != "open":
            return "reservation-ended"
        if refusal := next(filter(None, (self._kind(line.sku, line.sn) for line in command.lines)), None):
            return refusal
        for line in command.lines:
            own = hold.lines[line.sku, line.sn].remaining if (line.sku, line.sn) in hold.lines else 0
            if line.quantity > own + (0 if line.sn is not None and own else self._obtainable(line)):
                return "insufficient-stock"
        if command.ttl_seconds is not None:
            hold.expires = self.now + command.ttl_seconds
        wanted = {(line.sku, line.sn): line.quantity for line in command.lines}
        for key in [*hold.lines, *(key for key in wanted if key not in hold.lines)]:
            held = hold.lines.setdefault(key, Held(0))
            more = wanted.get(key, 0) - held.remaining
            if more < 0:
                self._release(key, held, -more)
            elif more > 0:
                held.quantity += more
                if key[1] is None:
                    self.levels[key[0]][1] += more
                else:
                    self.pieces[key[0]][key[1]].held_by = command.reservation_id
        return None

    def _take_back(self, hold: Hold, lines: Iterable[Line]) -> str | None:
        wanted = [((line.sku, line.sn), line.quantity) for line in lines]
        for key, quantity in wanted:
            held = hold.lines.get(key)
            if held is None or quantity > held.purchased - held.returned:
                return "not-held"
            if key[1] is None and self.levels[key[0]][0] + quantity > LARGEST:
                return "stock-limit"
        for (sku, sn), quantity in wanted:
            hold.lines[sku, sn].returned += quantity
            if sn is None:
                self.levels[sku][0] += quantity
            else:
                self.pieces[sku][sn] = Item()
        return None

    def _release(self, key: Key, held: Held, quantity: int) -> None:
        held.released += quantity
        sku, sn = key
        if sn is None:
            self.levels[sku][1] -= quantity
        elif quantity:
            self.pieces[sku][sn].held_by = None

    def _buy(self, hold: Hold, key: Key, quantity: int | None = None) -> None:
        """So much of a line, or what is still held of it, leaves the inventory."""
        (sku, sn), held = key, hold.lines[key]
        gone = held.remaining if quantity is None else quantity
        held.purchased += gone
        if sn is None:
            self.levels[sku][0] -= gone
            self.levels[sku][1] -= gone
        elif gone:
            reservation_id = self.pieces[sku][sn].held_by
            self.pieces[sku][sn] = Item(sold=True, sold_under=reservation_id)
        self._settle(hold, "purchased")

    def _settle(self, hold: Hold, how: str) -> None:
        """A hold of which nothing remains has ended; it was a purchase if anything of it was."""
        if hold.state == "open" and not any(held.remaining for held in hold.lines.values()):
            hold.state = "purchased" if any(held.purchased for held in hold.lines.values()) else how
