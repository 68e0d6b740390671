"""One transaction: take the log's lock, load what the commands touch, decide them in turn, append, commit.

Two round trips, each a pipeline: the first loads behind the lock, the second writes and commits.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import psycopg
from msgspec import Struct, field

from ledger.commands import Command, Group
from ledger.engine.decide import decide
from ledger.errors import AbandonedError, KeyReusedError, LedgerError
from ledger.facts import Entry
from ledger.outcome import Outcome
from ledger.reservations.commands import ExpireReservation, MakeReservation
from ledger.stock.errors import InsufficientStockError, Shortage
from ledger.store.connection import BoundedConnection
from ledger.store.idempotency import Answers
from ledger.store.log import Log
from ledger.store.roundtrip import RoundTrip, ask_one
from ledger.store.shortages import Shortages
from ledger.unit_of_work import UnitOfWork

# Overdue holds released at once to let one short command through; the rest is left to the next look.
MAX_OVERDUE_AT_ONCE = 1_000
# From so many events on, the server begins to append while the next commands are decided.
APPEND_ENTRIES = 500

Result = Outcome | LedgerError


class Needs(Struct):
    """What is to be loaded. `reservations` bring along everything that they hold, `items` the hold on them."""

    skus: set[str] = field(default_factory=set)
    items: set[tuple[str, str]] = field(default_factory=set)
    reservations: set[UUID] = field(default_factory=set)

    @classmethod
    def of(cls, commands: Iterable[Command]) -> "Needs":
        needs = cls()
        for command in commands:
            needs.skus.update(command.skus())
            needs.items.update(command.items())
            needs.reservations.update(command.reservations())
        return needs


class Due(Struct, frozen=True):
    """When a hold ends by itself, and whose it is."""

    expires_at: datetime
    reservation_id: UUID


class ReadModels(Protocol):
    """The inline read models, as the write side sees them (`projections.inline`)."""

    def ask(self, trip: RoundTrip, needs: Needs) -> Callable[[UnitOfWork], None]:
        """Ask for state; call the result to fill the books. What the books hold already is left as it is."""

    def save(self, trip: RoundTrip, work: UnitOfWork, entries: Sequence[Entry]) -> None:
        """Ask for the state that `entries` changed to be written."""

    def overdue(self, conn: BoundedConnection, skus: Collection[str], now: datetime, limit: int) -> list[UUID]:
        """Open reservations on fungible `skus` that are over at `now`, the longest overdue first."""

    def first_due(self, conn: BoundedConnection, skus: Collection[str], but: Collection[UUID]) -> dict[str, Due]:
        """The open hold on each fungible SKU that ends first, leaving out the reservations `but`."""


class Batch:
    """The commands of one transaction and what became of them: `results` by group and command, in order.

    `note`, called once they are known, asks for what else the transaction is to write; with it, it always commits.
    """

    def __init__(self, groups: Sequence[Group], note: "Callable[[RoundTrip, Batch], None] | None" = None) -> None:
        self.groups = groups
        self._note = note
        self.results: list[list[Result]] = []
        self.entries: list[Entry] = []
        self._appended = 0
        self.commit_seconds: float | None = None
        self._digest = b""  # of the last entry

    def run(self, conn: BoundedConnection, log: Log, read_models: ReadModels) -> None:
        """Run the transaction. An exception leaves it to the caller to roll back or, once sent, to find out."""
        work, answers = self._load(conn, log, read_models)
        transaction = _Transaction(conn, work, answers, read_models)
        self.results, self._appended = [], 0
        shortages = Shortages()
        for group in self.groups:
            self.results.append(transaction.settle_group(group))
            shortages.count(group.commands, self.results[-1])
            if len(transaction.work.entries) - self._appended >= APPEND_ENTRIES:
                early = RoundTrip(conn)
                self._append(early, log, transaction.work)
                early.send()
        work, answers = transaction.work, transaction.answers
        self.entries = work.entries
        if self.entries or answers or shortages or self._note:
            self._commit(conn, log, read_models, work, answers, shortages)
        else:
            ask_one(conn, "ROLLBACK")

    def _load(self, conn: BoundedConnection, log: Log, read_models: ReadModels) -> tuple[UnitOfWork, Answers]:
        answers = Answers()
        commands = [command for group in self.groups for command in group.commands]
        trip = RoundTrip(conn)
        trip.ask("BEGIN")
        head = log.ask_lock_and_head(trip)
        kept = answers.ask(trip, self.groups)
        loaded = read_models.ask(trip, Needs.of(commands))
        trip.go()
        now, position, self._digest = head()
        work = UnitOfWork(now, position)
        kept()
        loaded(work)
        return work, answers

    def _commit(
        self,
        conn: BoundedConnection,
        log: Log,
        read_models: ReadModels,
        work: UnitOfWork,
        answers: Answers,
        shortages: Shortages,
    ) -> None:
        trip = RoundTrip(conn)
        self._append(trip, log, work)
        if self.entries:
            read_models.save(trip, work, self.entries)
        answers.save(trip, work.now)
        shortages.save(trip, work.now, alone=not (self.entries or answers or self._note))
        if self._note:
            self._note(trip, self)
        end = trip.ask("COMMIT")
        started = time.monotonic()
        trip.go()
        self.commit_seconds = time.monotonic() - started
        if end.status != "COMMIT":
            raise psycopg.InternalError(f"COMMIT was answered with {end.status}")

    def _append(self, trip: RoundTrip, log: Log, work: UnitOfWork) -> None:
        """Ask for what was recorded since the last time to be appended."""
        if entries := work.entries[self._appended :]:
            self._digest = log.append(trip, entries, self._digest)
            self._appended = len(work.entries)


class _Transaction:
    """Decides commands one after another, each seeing the ones before it."""

    def __init__(self, conn: BoundedConnection, work: UnitOfWork, answers: Answers, read_models: ReadModels) -> None:
        self._conn = conn
        self.work = work
        self.answers = answers
        self._read_models = read_models
        self._swept: set[str] = set()
        self._looked_up: set[str] = set()
        self._due: dict[str, Due] = {}

    def settle_group(self, group: Group) -> list[Result]:
        """A result for each command; a group whose key came with another request is refused as a whole."""
        try:
            self.answers.check(group)
        except KeyReusedError as error:
            error.position = self.work.position
            return [error] * len(group.commands)
        results = self._settle_all(group) if group.atomic else [self._settle(command) for command in group.commands]
        if any(isinstance(result, Outcome) for result in results):
            self.answers.mark(group)
        return results

    def _settle_all(self, group: Group) -> list[Result]:
        """All or nothing: if one is refused, no trace is left."""
        before = self.work.copy(), self.answers.copy(), set(self._swept)
        results: list[Result] = []
        for command in group.commands:
            results.append(self._settle(command))
            if isinstance(cause := results[-1], LedgerError):
                self.work, self.answers, self._swept = before
                cause.position = self.work.position
                return [cause if n == len(results) - 1 else AbandonedError() for n in range(len(group.commands))]
        return results

    def _settle(self, command: Command) -> Result:
        """The outcome or the refusal; a refused command changes nothing and disturbs no other."""
        try:
            return self._kept_or_decided(command)
        except LedgerError as error:
            error.position = self.work.position
            return error

    def _kept_or_decided(self, command: Command) -> Outcome:
        kept = self.answers.find(command)
        if kept is not None:
            return kept
        outcome = self._decided(command)
        self.answers.keep(command, outcome)
        return outcome

    def _decided(self, command: Command) -> Outcome:
        """Decide; if that comes up short, once more when what is overdue on the short SKUs has been released."""
        if isinstance(command, MakeReservation) and command.partial:
            # It would take what there is without a word of being short.
            while self._sweep(self._short(command)):
                pass
        while True:
            try:
                return decide(self.work, command)
            except InsufficientStockError as error:
                if not self._sweep({short.sku for short in error.shortages if short.sn is None}):
                    error.next_release_at = self._next_releases(error.shortages)
                    raise

    def _short(self, command: MakeReservation) -> set[str]:
        """SKUs of the cart of which less is free than it asks for."""
        stock = self.work.stock
        return {line.sku for line in command.lines if line.sn is None and stock[line.sku].available < line.quantity}

    def _sweep(self, short: set[str]) -> bool:
        """Write down holds on the SKUs that are over by the clock; False if there are none."""
        if not (wanted := short - self._swept):
            return False
        work = self.work
        overdue = self._read_models.overdue(self._conn, wanted, work.now, MAX_OVERDUE_AT_ONCE)
        if len(overdue) < MAX_OVERDUE_AT_ONCE:
            self._swept |= wanted
        if not overdue:
            return False
        trip = RoundTrip(self._conn)
        loaded = self._read_models.ask(trip, Needs(reservations=set(overdue)))
        trip.go()
        loaded(work)
        before = work.position
        for reservation_id in overdue:
            decide(work, ExpireReservation(reservation_id=reservation_id))
        return work.position > before

    def _next_releases(self, shortages: Sequence[Shortage]) -> dict[tuple[str, str | None], datetime | None]:
        """When the next hold on each short line ends, by (SKU, serial number)."""
        self._look_up_due({short.sku for short in shortages if short.sn is None})
        return {(short.sku, short.sn): self._next_release(short) for short in shortages}

    def _next_release(self, short: Shortage) -> datetime | None:
        work = self.work
        if short.sn is not None:
            item = work.items[short.sku, short.sn]
            return item.reserved_until if item else None
        times = [
            r.expires_at for r in work.reservations.values() if r and (h := r.lines.get(short.sku)) and h.remaining
        ]
        if short.sku in self._due:
            times.append(self._due[short.sku].expires_at)
        return min(times, default=None)

    def _look_up_due(self, skus: set[str]) -> None:
        """Know the first hold on each SKU that no command of this transaction has touched."""
        touched = self.work.reservations
        wanted = {sku for sku in skus if sku not in self._looked_up or self._due_is_touched(sku)}
        if wanted:
            self._looked_up |= wanted
            for sku in wanted:
                self._due.pop(sku, None)
            self._due |= self._read_models.first_due(self._conn, wanted, touched)

    def _due_is_touched(self, sku: str) -> bool:
        due = self._due.get(sku)
        return due is not None and due.reservation_id in self.work.reservations
