"""The rules of reservations, checked on a replay: made once, changed only while open, ended once.

Only what is still open is remembered. What may happen after the end, a return or an expired reservation that is held
again, is handed on to be judged when all ends are known; so memory grows with what is open, not with the log.
"""

from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from ledger.audit.findings import Findings, Place
from ledger.identifiers import MAX_TTL_SECONDS
from ledger.items.events import ItemPurchased
from ledger.reservations.reservations import Extended, Purchased, Released, Reserved, Returned
from ledger.stock.events import StockPurchased

EXPIRY_ACTOR = "expiry"
_SECOND = timedelta(seconds=1)
_LONGEST = timedelta(seconds=MAX_TTL_SECONDS)
_NONE = timedelta()


class Moment(Place, Protocol):
    @property
    def recorded_at(self) -> datetime: ...


class HeldLine:
    """Units of one line, as `ledger.reservations.reservations.HeldLine` has them; changed in place.

    `again` of those that were reserved are the ones that had expired.
    """

    __slots__ = ("again", "expired", "purchased", "quantity", "released", "returned")

    def __init__(self, quantity: int) -> None:
        self.quantity = quantity
        self.released = self.purchased = self.returned = self.expired = self.again = 0

    @property
    def remaining(self) -> int:
        return self.quantity - self.released - self.purchased


class Hold:
    """A reservation; `lines` by stream, in the order they were reserved. `last` is the position of its last line.

    `again` of one that is the going on of an expired one.
    """

    __slots__ = (
        "again",
        "created_at",
        "ended_at",
        "expires_at",
        "fingerprint",
        "last",
        "lines",
        "owner",
        "position",
        "reference",
        "remaining",
        "reservation_id",
        "state",
    )

    def __init__(self, entry: Moment, event: Reserved) -> None:
        self.reservation_id: UUID = event.reservation_id
        self.position = self.last = entry.position
        self.state = "open"
        self.again = event.again
        self.owner, self.reference, self.fingerprint = event.owner, event.reference, event.fingerprint
        self.created_at = entry.recorded_at
        self.expires_at = event.expires_at
        self.ended_at: datetime | None = None
        self.remaining = 0
        self.lines: dict[str, HeldLine] = {}

    def members(self) -> tuple[Any, ...]:
        """What all its lines have in common."""
        return self.created_at, self.expires_at, self.owner, self.reference, self.fingerprint, self.again


class Group:
    """Facts of one command, of which there must be one for each line that is held: `streams` are still to come."""

    __slots__ = ("hold", "key", "last", "streams")

    def __init__(self, entry: Moment, hold: Hold, key: tuple[str, object]) -> None:
        self.hold, self.key, self.last = hold, key, entry
        self.streams = {s for s, line in hold.lines.items() if line.remaining > 0 and s != entry.stream}


class Witness(Protocol):
    """Told of what the replay itself forgets."""

    def is_over(self, hold: Hold) -> None:
        """A reservation has ended, or is open at the end of the replay."""

    def purchased(self, entry: Moment, event: StockPurchased | ItemPurchased, hold: Hold | None) -> None:
        """Goods left the inventory; `hold` as it was before, if there was one."""

    def returned(self, entry: Moment, reservation_id: UUID, quantity: int) -> None:
        """Goods came back of a reservation that is not open: to be judged once its end is known."""


class Holds:
    """Open reservations by the integer of their id, which hashes ten times as fast as the id."""

    def __init__(self, findings: Findings, witness: Witness) -> None:
        self._findings = findings
        self._witness = witness
        self.open: dict[int, Hold] = {}
        self._group: Group | None = None

    def reserve(self, entry: Moment, event: Reserved, quantity: int, before: int) -> None:
        """`before` is the position of the entry before: the lines of one reservation follow each other."""
        number = event.reservation_id.int
        hold = self.open.get(number)
        if hold is None:
            hold = self.open[number] = Hold(entry, event)
            self._check_ttl(entry, event)
        elif hold.last != before or entry.stream in hold.lines or hold.members() != Hold(entry, event).members():
            self._check_growth(entry, event, hold)
        hold.last = entry.position
        line = hold.lines.get(entry.stream)
        if line is None:
            line = hold.lines[entry.stream] = HeldLine(quantity)
        else:
            line.quantity += quantity
        if event.again:
            line.again += quantity
        hold.remaining += quantity

    def extend(self, entry: Moment, event: Extended, quantity: int, before: int) -> None:
        hold = self._open(entry, event.reservation_id)
        if hold is None:
            return
        if len(hold.lines) > 1:
            self._together(entry, hold, ("extended", event.expires_at), before)
        if event.expires_at != hold.expires_at:  # else it is a further line
            self._check_not_over(entry, hold)
        self._check_ttl(entry, event)
        line = self._line(entry, hold)
        if line is not None and quantity != line.remaining:
            self._findings.at(entry, "quantity", f"{line.remaining}, which is held", quantity)
        hold.expires_at = event.expires_at

    def release(self, entry: Moment, event: Released, quantity: int, before: int) -> None:
        hold = self._open(entry, event.reservation_id)
        if hold is None:
            return
        line = self._line(entry, hold)
        if event.cause == "expired":
            if len(hold.lines) > 1:
                self._together(entry, hold, ("expired", None), before)
            self._check_expiry(entry, event, hold)
            if line is not None and quantity != line.remaining:
                self._findings.at(entry, "quantity", f"{line.remaining}, which is held", quantity)
        else:
            self._check_not_over(entry, hold)
            if line is not None and quantity > line.remaining:
                self._findings.at(entry, "quantity", f"at most {line.remaining}, which is held", quantity)
        if line is not None:
            line.released += quantity
            line.expired += quantity if event.cause == "expired" else 0
            self._reduce(entry, hold, quantity, "expired" if event.cause == "expired" else "released")

    def purchase(self, entry: Moment, event: Purchased, quantity: int, _before: int) -> None:
        assert event.reservation_id is not None, "the caller has looked"
        hold = self._open(entry, event.reservation_id)
        self._witness.purchased(entry, event, hold)
        if hold is None:
            return
        self._check_not_over(entry, hold)
        line = self._line(entry, hold)
        if line is None:
            return
        if quantity > line.remaining:
            self._findings.at(entry, "quantity", f"at most {line.remaining}, which is held", quantity)
        line.purchased += quantity
        self._reduce(entry, hold, quantity, "purchased")

    def give_back(self, entry: Moment, event: Returned, quantity: int, _before: int) -> None:
        assert event.reservation_id is not None, "the caller has looked"
        hold = self.open.get(event.reservation_id.int)
        if hold is None:
            self._witness.returned(entry, event.reservation_id, quantity)
            return
        line = self._line(entry, hold)
        if line is None:
            return
        if quantity > line.purchased - line.returned:
            self._findings.at(entry, "quantity", f"at most {line.purchased - line.returned}, which is sold", quantity)
        line.returned += quantity

    def end(self) -> None:
        """Hand over what is open at the end of the log."""
        self._end_group()
        for hold in self.open.values():
            self._witness.is_over(hold)
        self.open.clear()

    def _check_ttl(self, entry: Moment, event: Reserved | Extended) -> None:
        ttl = event.expires_at - entry.recorded_at
        if ttl % _SECOND or not _NONE <= ttl <= _LONGEST:
            self._findings.at(entry, "expiry", f"whole seconds, 0 to {MAX_TTL_SECONDS}, after it was recorded", ttl)

    def _check_growth(self, entry: Moment, event: Reserved, hold: Hold) -> None:
        """More is held under the same id: until the same time, for the same owner, while it is open."""
        self._check_not_over(entry, hold)
        goes_on = event.again and hold.again and entry.stream not in hold.lines
        if event.again != goes_on or (event.expires_at, event.owner, event.fingerprint) != (
            hold.expires_at,
            hold.owner,
            None,
        ):
            made = f"reservation {event.reservation_id} was made at position {hold.position}"
            self._findings.at(entry, "reservation-taken", "an id that is not in use", made)

    def _together(self, entry: Moment, hold: Hold, key: tuple[str, object], before: int) -> None:
        """What happens to all lines of a reservation happens to them one after another."""
        group = self._group
        goes_on = group is not None and group.hold is hold and group.key == key and group.last.position == before
        if group is None or not goes_on or entry.stream not in group.streams:
            self._end_group()
            self._group = group = Group(entry, hold, key)
        group.streams.discard(entry.stream)
        group.last = entry
        if not group.streams:
            self._group = None

    def _end_group(self) -> None:
        if self._group is not None:
            missing = ", ".join(sorted(self._group.streams))
            self._findings.at(self._group.last, "incomplete", f"the same of {missing} next", "something else")
            self._group = None

    def _open(self, entry: Moment, reservation_id: UUID) -> Hold | None:
        hold = self.open.get(reservation_id.int)
        if hold is None:
            self._findings.at(entry, "reservation-not-open", "an open reservation", f"{reservation_id}, which is not")
        return hold

    def _line(self, entry: Moment, hold: Hold) -> HeldLine | None:
        line = hold.lines.get(entry.stream)
        if line is None:
            holds = f"reservation {hold.reservation_id} holds {', '.join(hold.lines)}"
            self._findings.at(entry, "line-unknown", "a line of the reservation", holds)
        return line

    def _check_not_over(self, entry: Moment, hold: Hold) -> None:
        if entry.recorded_at >= hold.expires_at:
            over = f"reservation {hold.reservation_id} was over at {hold.expires_at.isoformat()}"
            self._findings.at(entry, "reservation-over", "nothing but its expiry", over)

    def _check_expiry(self, entry: Moment, event: Released, hold: Hold) -> None:
        if entry.recorded_at < hold.expires_at:
            self._findings.at(entry, "not-due", f"no expiry before {hold.expires_at.isoformat()}", entry.recorded_at)
        by = (EXPIRY_ACTOR, f"expire:{hold.reservation_id}")
        if (event.actor, event.request_id) != by:
            self._findings.at(entry, "expiry-actor", " ".join(by), f"{event.actor} {event.request_id}")

    def _reduce(self, entry: Moment, hold: Hold, quantity: int, end: str) -> None:
        hold.remaining -= quantity
        if hold.remaining > 0:
            return
        bought = any(line.purchased for line in hold.lines.values())
        hold.state = "purchased" if bought else end
        hold.ended_at = entry.recorded_at
        del self.open[hold.reservation_id.int]
        self._witness.is_over(hold)
