"""Demand that was refused: what reservations asked for and did not get, counted by day and SKU.

Counters, not facts: the log says what happened to the stock, and nothing has happened to it. How far they can be
relied on is said in the migration that makes them.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from ledger.commands import Command
from ledger.errors import LedgerError
from ledger.items.errors import ItemHeldError, ItemSoldError
from ledger.outcome import Outcome
from ledger.reservations.commands import ChangeReservation, MakeReservation, ReserveItem
from ledger.reservations.outcomes import MadeOutcome
from ledger.stock.errors import InsufficientStockError, Shortage
from ledger.store.roundtrip import RoundTrip

_SAVE = """
INSERT INTO shortages_daily AS kept (day, sku, requests, requested, short)
SELECT ($1::timestamptz AT TIME ZONE 'UTC')::date, sku, requests, requested, short
FROM unnest($2::text[], $3::bigint[], $4::numeric[], $5::numeric[]) AS new (sku, requests, requested, short)
ON CONFLICT (day, sku) DO UPDATE SET
    requests = kept.requests + excluded.requests,
    requested = kept.requested + excluded.requested,
    short = kept.short + excluded.short
"""
# The transaction holds nothing but counters.
_NEED_NOT_WAIT = "SELECT set_config('synchronous_commit', 'off', true)"


class RefusedDemand:
    """Implements `ledger.room.Demand`: by SKU, how many requests of one transaction, units asked for, units short."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def count(self, commands: Sequence[Command], results: Sequence[Outcome | LedgerError]) -> None:
        """Take in what came of commands; removing stock is no demand, a replay was counted before."""
        for command, result in zip(commands, results, strict=True):
            for short in _shortages(command, result):
                counts = self._counts.setdefault(short.sku, [0, 0, 0])
                counts[0] += 1
                counts[1] += short.requested
                counts[2] += short.requested - short.available

    def save(self, trip: RoundTrip, now: datetime, *, alone: bool) -> None:
        """Ask for the counts to be added; `alone` in its transaction, which then is not waited for to be on disk."""
        if alone:
            trip.ask(_NEED_NOT_WAIT)
        if self._counts:
            skus = sorted(self._counts)
            columns = zip(*(self._counts[sku] for sku in skus), strict=True)
            trip.ask(_SAVE, now, skus, *([str(number) for number in column] for column in columns))


def _shortages(command: Command, result: Outcome | LedgerError) -> Iterator[Shortage]:
    if isinstance(command, MakeReservation | ChangeReservation):
        if isinstance(result, InsufficientStockError):
            yield from result.shortages
        elif isinstance(result, MadeOutcome) and not result.replayed:
            yield from result.missing
    elif isinstance(command, ReserveItem) and isinstance(result, ItemHeldError | ItemSoldError):
        yield Shortage(command.sku, requested=1, available=0, held_by_others=1, sn=command.sn)
