"""Reservations: what a cart holds, until when, and how each line ended.

A reservation is over at `expires_at` for every rule, whether or not that has been written down: it cannot be
purchased, extended or revived after that.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import Struct, structs

from ledger.facts import Entry, Event
from ledger.items.events import ItemPurchased, ItemReleased, ItemReservationExtended, ItemReserved, ItemReturned
from ledger.reservations.commands import Line
from ledger.state import StateKind
from ledger.stock.events import StockPurchased, StockReleased, StockReservationExtended, StockReserved, StockReturned
from ledger.streams import parse_stream

State = Literal["open", "released", "expired", "purchased"]

Reserved = StockReserved | ItemReserved
Extended = StockReservationExtended | ItemReservationExtended
Released = StockReleased | ItemReleased
Purchased = StockPurchased | ItemPurchased
Returned = StockReturned | ItemReturned


class HeldLine(Struct, frozen=True, omit_defaults=True):
    """`quantity` reserved in all, of which so many were released, purchased, and returned after the purchase.

    `expired` of what was released went back because the time was over.
    """

    sku: str
    quantity: int
    sn: str | None = None
    released: int = 0
    purchased: int = 0
    returned: int = 0
    expired: int = 0

    @property
    def remaining(self) -> int:
        return self.quantity - self.released - self.purchased


class Reservation(Struct, frozen=True):
    """`lines` by `line_key`, in the order they were reserved; `remaining` units of them all are still held.

    `position` is that of the first event, which puts reservations in the order in which they were made.
    """

    reservation_id: UUID
    position: int
    state: State
    owner: str | None
    reference: str | None
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    fingerprint: str | None
    remaining: int
    lines: dict[str, HeldLine]

    def is_overdue(self, now: datetime) -> bool:
        """Over by the clock, but not yet written down."""
        return self.state == "open" and self.expires_at <= now

    def state_at(self, now: datetime) -> State:
        """As it will be written down: what was purchased in part is purchased."""
        if not self.is_overdue(now):
            return self.state
        return "purchased" if any(line.purchased for line in self.lines.values()) else "expired"

    @property
    def version(self) -> int:
        """Stands for all of it that changes: equal versions, equal reservations."""
        lines = [(key, *structs.astuple(line)) for key, line in self.lines.items()]
        content = msgspec.json.encode((self.state, self.expires_at, lines))
        return (
            int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") >> 11
        )  # JSON numbers are exact up to 53 bits

    def held(self) -> list[HeldLine]:
        return [line for line in self.lines.values() if line.remaining]

    def expired(self) -> list[HeldLine]:
        """What it held when its time was over; `expired` of each line."""
        return [line for line in self.lines.values() if line.expired]


def line_key(sku: str, sn: str | None) -> str:
    """Unambiguous, because a SKU holds no `/`."""
    return sku if sn is None else f"{sku}/{sn}"


def summed(lines: Iterable[Line]) -> tuple[Line, ...]:
    """One line per SKU or item, quantities of the same SKU added up, in order of SKU and serial number.

    One order for all keeps the answer to the same cart the same.
    """
    total: dict[tuple[str, str], int] = {}
    for line in lines:
        key = (line.sku, line.sn or "")
        total[key] = total.get(key, 0) + line.quantity if line.sn is None else 1
    return tuple(Line(sku, total[sku, sn], sn or None) for sku, sn in sorted(total))


def reservation_of(event: Event) -> UUID | None:
    """The reservation that an event is about, if it is about one."""
    return getattr(event, "reservation_id", None)


# What each fact about a line adds to, looked up by the event's class: several times as fast as asking `isinstance`.
_COUNTED: dict[type[Event], Literal["released", "purchased", "returned"]] = {
    StockReleased: "released",
    ItemReleased: "released",
    StockPurchased: "purchased",
    ItemPurchased: "purchased",
    StockReturned: "returned",
    ItemReturned: "returned",
}


def evolve(reservation: Reservation | None, entry: Entry) -> Reservation:
    event = entry.event
    _, sku, sn = parse_stream(entry.stream)
    counted = _COUNTED.get(type(event))
    if counted is None and isinstance(event, Reserved):
        return _with_line(reservation, event, sku, sn or None, entry)
    if reservation is None:
        raise TypeError(f"the first fact of a reservation must reserve, not {event!r}")
    if counted is None and isinstance(event, Extended):
        return structs.replace(reservation, expires_at=event.expires_at)
    if counted is None:
        raise TypeError(f"not a fact of a reservation: {event!r}")
    key = line_key(sku, sn or None)
    quantity: int = getattr(event, "quantity", 1)  # an item is one unit
    line = _advance(reservation.lines[key], counted, quantity)
    if isinstance(event, Released) and event.cause == "expired":
        line = structs.replace(line, expired=line.expired + quantity)
    lines = {**reservation.lines, key: line}
    if counted == "returned":
        return structs.replace(reservation, lines=lines)
    if remaining := reservation.remaining - quantity:
        return structs.replace(reservation, lines=lines, remaining=remaining)
    return structs.replace(reservation, lines=lines, remaining=0, state=_end(lines, event), ended_at=entry.recorded_at)


def _with_line(reservation: Reservation | None, event: Reserved, sku: str, sn: str | None, entry: Entry) -> Reservation:
    quantity = event.quantity if isinstance(event, StockReserved) else 1
    key = line_key(sku, sn)
    if reservation is not None:
        return _grown(reservation, key, HeldLine(sku, quantity, sn), event.expires_at)
    return Reservation(
        event.reservation_id,
        entry.position,
        "open",
        event.owner,
        event.reference,
        entry.recorded_at,
        event.expires_at,
        None,
        event.fingerprint,
        quantity,
        {key: HeldLine(sku, quantity, sn)},
    )


def _grown(reservation: Reservation, key: str, more: HeldLine, expires_at: datetime) -> Reservation:
    """With a further line, or more of one; one that had expired is open again."""
    line = reservation.lines.get(key)
    grown = more if line is None else structs.replace(line, quantity=line.quantity + more.quantity)
    return structs.replace(
        reservation,
        state="open",
        expires_at=expires_at,
        ended_at=None,
        lines=reservation.lines | {key: grown},
        remaining=reservation.remaining + more.quantity,
    )


def _advance(line: HeldLine, counted: Literal["released", "purchased", "returned"], quantity: int) -> HeldLine:
    if counted == "released":
        return structs.replace(line, released=line.released + quantity)
    if counted == "purchased":
        return structs.replace(line, purchased=line.purchased + quantity)
    return structs.replace(line, returned=line.returned + quantity)


def _end(lines: dict[str, HeldLine], last: Event) -> State:
    """A reservation of which anything was purchased is purchased; else the last release says how it ended."""
    if any(line.purchased for line in lines.values()):
        return "purchased"
    return "expired" if isinstance(last, Released) and last.cause == "expired" else "released"


def _nothing(_reservation_id: UUID) -> None:
    return None


# Facts about a reservation are in the streams of what it holds.
RESERVATIONS: StateKind[UUID, Reservation | None] = StateKind(
    "reservations", evolve, _nothing, key_of_event=reservation_of
)
