"""What can be done within a transaction for a command that comes up short: overdue holds on what it lacks are released.

So lag in writing down what is over never refuses a sale. Where nothing helps, the refusal says when the next hold ends.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from ledger.commands import Command
from ledger.errors import LedgerError
from ledger.items.items import ITEMS
from ledger.reservations.commands import MakeReservation
from ledger.reservations.overdue import expire_overdue
from ledger.reservations.reservations import RESERVATIONS
from ledger.room import ReadModels
from ledger.state import Keys
from ledger.stock.errors import InsufficientStockError, Shortage
from ledger.stock.levels import STOCK
from ledger.store.connection import BoundedConnection
from ledger.store.roundtrip import RoundTrip
from ledger.unit_of_work import UnitOfWork

# Overdue holds released at once to let one short command through; the rest is left to the next look.
MAX_OVERDUE_AT_ONCE = 1_000


class Due(Struct, frozen=True):
    """When a hold ends by itself, and whose it is."""

    expires_at: datetime
    reservation_id: UUID


class Holds(ReadModels, Protocol):
    """Finds holds by what they hold (`projections.inline`)."""

    def overdue(self, conn: BoundedConnection, skus: Collection[str], now: datetime, limit: int) -> list[UUID]:
        """Open reservations on fungible `skus` that are over at `now`, the longest overdue first."""

    def first_due(self, conn: BoundedConnection, skus: Collection[str], but: Collection[UUID]) -> dict[str, Due]:
        """The open hold on each fungible SKU that ends first, leaving out the reservations `but`."""


class Shortfall:
    """Implements `ledger.room.Recourse`."""

    def __init__(self, conn: BoundedConnection, read_models: Holds) -> None:
        self._conn = conn
        self._read_models = read_models
        self._looked_up: set[str] = set()
        self._due: dict[str, Due] = {}

    def prepare(self, work: UnitOfWork, command: Command) -> None:
        """A partial cart would take what there is without a word of being short."""
        if isinstance(command, MakeReservation) and command.partial:
            while self._sweep(work, _short(work, command)):
                pass

    def after_refusal(self, work: UnitOfWork, command: Command, error: LedgerError) -> bool:
        """Whether overdue holds on what is short were released; if not, the refusal learns when the next ones end."""
        if not isinstance(error, InsufficientStockError):
            return False
        if self._sweep(work, {short.sku for short in error.shortages if short.sn is None}):
            return True
        if self._free(work, [(short.sku, short.sn) for short in error.shortages if short.sn is not None]):
            return True
        error.next_release_at = self._next_releases(work, error.shortages)
        return False

    def _sweep(self, work: UnitOfWork, short: set[str]) -> bool:
        """Write down holds on the SKUs that are over by the clock; False if there are none."""
        swept = work.remembered.setdefault(Shortfall, set())
        if not (wanted := short - swept):
            return False
        overdue = self._read_models.overdue(self._conn, wanted, work.now, MAX_OVERDUE_AT_ONCE)
        if len(overdue) < MAX_OVERDUE_AT_ONCE:
            swept |= wanted
        return self._expire(work, overdue)

    def _free(self, work: UnitOfWork, items: Sequence[tuple[str, str]]) -> bool:
        """The same for items that reservations hold which nobody has looked at yet."""
        known, held = work[RESERVATIONS], work[ITEMS]
        holders = {item.reservation_id for key in items if (item := held[key]) is not None and item.reservation_id}
        return self._expire(work, [holder for holder in sorted(holders) if holder not in known])

    def _expire(self, work: UnitOfWork, overdue: Sequence[UUID]) -> bool:
        """Load the reservations, and write down those that are over, in their order; False if there are none."""
        if not overdue:
            return False
        needs = Keys()
        needs.update(RESERVATIONS, overdue)
        trip = RoundTrip(self._conn)
        loaded = self._read_models.ask(trip, needs)
        trip.go()
        loaded(work)
        before = work.position
        for reservation_id in overdue:
            expire_overdue(work, [reservation_id])
        return work.position > before

    def _next_releases(
        self, work: UnitOfWork, shortages: Sequence[Shortage]
    ) -> dict[tuple[str, str | None], datetime | None]:
        """When the next hold on each short line ends, by (SKU, serial number)."""
        self._look_up_due(work, {short.sku for short in shortages if short.sn is None})
        return {(short.sku, short.sn): self._next_release(work, short) for short in shortages}

    def _next_release(self, work: UnitOfWork, short: Shortage) -> datetime | None:
        if short.sn is not None:
            item = work[ITEMS][short.sku, short.sn]
            return item.reserved_until if item else None
        times = [
            r.expires_at for r in work[RESERVATIONS].values() if r and (h := r.lines.get(short.sku)) and h.remaining
        ]
        if short.sku in self._due:
            times.append(self._due[short.sku].expires_at)
        return min(times, default=None)

    def _look_up_due(self, work: UnitOfWork, skus: set[str]) -> None:
        """Know the first hold on each SKU that no command of this transaction has touched."""
        touched = work[RESERVATIONS]
        wanted = {sku for sku in skus if sku not in self._looked_up or self._due_is_touched(work, sku)}
        if wanted:
            self._looked_up |= wanted
            for sku in wanted:
                self._due.pop(sku, None)
            self._due |= self._read_models.first_due(self._conn, wanted, touched)

    def _due_is_touched(self, work: UnitOfWork, sku: str) -> bool:
        due = self._due.get(sku)
        return due is not None and due.reservation_id in work[RESERVATIONS]


def _short(work: UnitOfWork, command: MakeReservation) -> set[str]:
    """SKUs of the cart of which less is free than it asks for."""
    stock = work[STOCK]
    return {line.sku for line in command.lines if line.sn is None and stock[line.sku].available < line.quantity}
