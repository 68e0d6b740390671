"""One transaction: take the log's lock, load what the commands touch, decide them in turn, append, commit.

Two round trips, each a pipeline: the first loads behind the lock, the second writes and commits.
"""

import time
from collections.abc import Callable, Sequence

import psycopg

from ledger.commands import Command, Group
from ledger.engine.decide import decide
from ledger.engine.replay import replayed
from ledger.errors import AbandonedError, KeyReusedError, LedgerError
from ledger.facts import Entry
from ledger.outcome import Outcome
from ledger.room import Demand, ReadModels, Rooms
from ledger.store.connection import BoundedConnection
from ledger.store.durability import BEHIND, require_not_cut_off
from ledger.store.idempotency import Answers
from ledger.store.log import Log
from ledger.store.roundtrip import RoundTrip, ask_one
from ledger.unit_of_work import UnitOfWork

# From so many events on, the server begins to append while the next commands are decided.
APPEND_ENTRIES = 500

Result = Outcome | LedgerError


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
        self._has_standbys = False

    def run(self, conn: BoundedConnection, log: Log, rooms: Rooms, read_models: ReadModels) -> None:
        """Run the transaction. An exception leaves it to the caller to roll back or, once sent, to find out."""
        work, answers = self._load(conn, log, rooms, read_models)
        transaction = _Transaction(conn, work, answers, rooms, read_models)
        self.results, self._appended = [], 0
        demand = read_models.demand()
        for group in self.groups:
            self.results.append(transaction.settle_group(group))
            demand.count(group.commands, self.results[-1])
            if len(transaction.work.entries) - self._appended >= APPEND_ENTRIES:
                early = RoundTrip(conn)
                self._append(early, log, transaction.work)
                early.send()
        work, answers = transaction.work, transaction.answers
        self.entries = work.entries
        if self.entries or answers or demand or self._note or self._finds():
            self._commit(conn, log, read_models, work, answers, demand)
        else:
            ask_one(conn, "ROLLBACK")

    def _load(
        self, conn: BoundedConnection, log: Log, rooms: Rooms, read_models: ReadModels
    ) -> tuple[UnitOfWork, Answers]:
        answers = Answers()
        commands = [command for group in self.groups for command in group.commands]
        trip = RoundTrip(conn)
        trip.ask("BEGIN")
        head = log.ask_lock_and_head(trip)
        kept = answers.ask(trip, self.groups)
        loaded = read_models.ask(trip, rooms.needs_of(commands))
        trip.go()
        now, position, self._digest, self._has_standbys = head()
        work = UnitOfWork(now, position, rooms.states)
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
        demand: Demand,
    ) -> None:
        trip = RoundTrip(conn)
        self._append(trip, log, work)
        if self.entries:
            read_models.save(trip, work, self.entries)
        answers.save(trip, work.now)
        if self._finds() and not (self.entries or answers):
            trip.ask(BEHIND)
        demand.save(trip, work.now, alone=not (self.entries or answers or self._note or self._finds()))
        if self._note:
            self._note(trip, self)
        end = trip.ask("COMMIT")
        started = time.monotonic()
        trip.go()
        self.commit_seconds = time.monotonic() - started
        if end.status != "COMMIT":
            raise psycopg.InternalError(f"COMMIT was answered with {end.status}")
        require_not_cut_off(conn)

    def _finds(self) -> bool:
        """Whether somebody is told that something is recorded, and standbys have to have it first."""
        return self._has_standbys and any(isinstance(result, Outcome) for each in self.results for result in each)

    def _append(self, trip: RoundTrip, log: Log, work: UnitOfWork) -> None:
        """Ask for what was recorded since the last time to be appended."""
        if entries := work.entries[self._appended :]:
            self._digest = log.append(trip, entries, self._digest)
            self._appended = len(work.entries)


class _Transaction:
    """Decides commands one after another, each seeing the ones before it."""

    def __init__(
        self, conn: BoundedConnection, work: UnitOfWork, answers: Answers, rooms: Rooms, read_models: ReadModels
    ) -> None:
        self._conn = conn
        self.work = work
        self.answers = answers
        self._rooms = rooms
        self._recourses = [make(conn, read_models) for make in rooms.recourses]

    def settle_group(self, group: Group) -> list[Result]:
        """A result for each command; a group whose key came with another request is refused as a whole."""
        try:
            self.answers.check(group)
        except KeyReusedError as error:
            error.position = self.work.position
            return [error] * len(group.commands)
        results = self._settle_all(group) if group.atomic else [self._settle(command) for command in group.commands]
        if any(isinstance(result, Outcome) for result in results):
            self.answers.mark(group, self.work.position)
        return results

    def _settle_all(self, group: Group) -> list[Result]:
        """All or nothing: if one is refused, no trace is left."""
        before = self.work.copy(), self.answers.copy()
        results: list[Result] = []
        for command in group.commands:
            results.append(self._settle(command))
            if isinstance(cause := results[-1], LedgerError):
                self.work, self.answers = before
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
            return replayed(self._conn, self._rooms, command, kept)
        before = self.work.position
        outcome = self._decided(command)
        self.answers.keep(command, outcome, self.work.position - before)
        return outcome

    def _decided(self, command: Command) -> Outcome:
        """Decide; if that is refused, once more as long as a room finds something to do about it."""
        for recourse in self._recourses:
            recourse.prepare(self.work, command)
        while True:
            try:
                return decide(self._rooms, self.work, command)
            except LedgerError as error:
                if not any(recourse.after_refusal(self.work, command, error) for recourse in self._recourses):
                    raise
