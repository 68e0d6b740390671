"""The checker that comes after every fault: the log, the read models made from it, and what callers were told.

The log is a total order, so there is nothing to search: every promise is one pass over it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import psycopg

from ledger.audit.findings import Findings
from ledger.store.connection import connect
from projections.rebuilding.rebuild import Rebuild
from projections.verifying.verification import verify_ledger
from tests.chaos import notes as written
from tests.chaos.fold import Fold, Row
from tests.chaos.notes import Note
from tests.chaos.seen import Seen, differences

_LOG = """
SELECT notification_id, recorded_at, originator_id, originator_version, topic, convert_from(state, 'UTF8')::json
FROM stored_events ORDER BY notification_id
"""
_LEVELS = "SELECT sku, on_hand, reserved, version FROM stock_levels"
_ITEMS = "SELECT sku, sn, sold, sold_under::text, reservation_id::text, reserved_at, reserved_until, version FROM items"
_HOLDS = """
SELECT reservation_id::text, position, owner, reference, created_at, expires_at, state, ended_at, remaining
FROM reservations
"""
_LINES = """
SELECT reservation_id::text, sku, sn, quantity, released, purchased, returned, remaining, expires_at
FROM reservation_lines ORDER BY reservation_id, line
"""
_PURCHASES = "SELECT purchase_id::text, position, requested_at, reservation_id::text, lines FROM fulfilment_requests"

Table = dict[Any, Any]


@dataclass(frozen=True)
class Report:
    """`broken` promises as sentences; `entries` of the log and `checked` words of callers that were looked at."""

    broken: list[str]
    entries: int
    checked: int
    rows: list[Row]


def audit(url: str, schema: str, notes: Sequence[Note] = (), seen: Sequence[Seen] = ()) -> Report:
    """Check the whole log of a schema, its read models, and the notes and reads of callers against it."""
    with connect(url, schema, "stockledger audit") as conn, conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        rows = [Row(*row) for row in conn.execute(_LOG)]
        fold, wrongly_seen = _fold(rows, seen)
        broken = [*fold.broken, *wrongly_seen, *_compare(conn, fold)]
    broken += written.check(notes, rows)
    broken += _rebuilt(url, schema)
    broken += _verified(url, schema)
    return Report(broken, len(rows), len(notes) + len(seen), rows)


def _fold(rows: Sequence[Row], seen: Sequence[Seen]) -> tuple[Fold, list[str]]:
    """The state that the log makes, and what callers saw otherwise on the way there."""
    fold, wrong = Fold(), []
    waiting = sorted(seen, key=attrgetter("position"), reverse=True)
    for row in rows:
        while waiting and waiting[-1].position < row.position:
            wrong += differences(fold, waiting.pop())
        fold.apply(row)
    while waiting:
        wrong += differences(fold, waiting.pop())
    return fold, wrong


def _compare(conn: psycopg.Connection[Any], fold: Fold) -> Iterator[str]:
    """Each read model against the state that the log makes."""
    yield from _differ("stock_levels", _table(conn, _LEVELS), _levels(fold))
    yield from _differ("items", _table(conn, _ITEMS, 2), _items(fold))
    yield from _differ("reservations", _table(conn, _HOLDS), _holds(fold))
    yield from _differ("reservation_lines", _table(conn, _LINES, 3), _lines(fold))
    yield from _differ("fulfilment_requests", _table(conn, _PURCHASES), _purchases(fold))


def _table(conn: psycopg.Connection[Any], query: str, key_columns: int = 1) -> Table:
    return {tuple(row[:key_columns]): tuple(row[key_columns:]) for row in conn.execute(query.encode())}


def _levels(fold: Fold) -> Table:
    return {(sku,): (level.on_hand, level.reserved, level.version) for sku, level in fold.stock.items()}


def _items(fold: Fold) -> Table:
    return {
        key: (item.sold, item.sold_under, item.held_by, item.since, item.until, item.version)
        for key, item in fold.items.items()
    }


def _holds(fold: Fold) -> Table:
    members = ("position", "owner", "reference", "created_at", "expires_at", "state", "ended_at")
    return {
        (i,): (*(getattr(hold, member) for member in members), sum(line.remaining for line in hold.lines.values()))
        for i, hold in fold.holds.items()
    }


def _lines(fold: Fold) -> Table:
    return {
        (i, sku, sn): (line.quantity, line.released, line.purchased, line.returned, line.remaining, hold.expires_at)
        for i, hold in fold.holds.items()
        for (sku, sn), line in hold.lines.items()
    }


def _purchases(fold: Fold) -> Table:
    return {(i,): (p.position, p.requested_at, p.reservation_id, p.lines) for i, p in fold.purchases.items()}


def _differ(name: str, shown: Table, folded: Table) -> Iterator[str]:
    for key in sorted(shown.keys() | folded.keys()):
        if shown.get(key) != folded.get(key):
            yield f"{name} {key} shows {shown.get(key)}, the log says {folded.get(key)}"


def _rebuilt(url: str, schema: str) -> list[str]:
    with Rebuild(url, schema) as rebuild:
        return [f"{table}: {count} rows differ when rebuilt" for table, count in rebuild.differences().items()]


class _Silent:
    def begin(self, stage: str, total: int | None, unit: str) -> None: ...
    def moved(self, by: int) -> None: ...


def _verified(url: str, schema: str) -> list[str]:
    """What `stockledger verify` finds."""
    findings = Findings()
    verify_ledger(partial(connect, url, schema, "stockledger verify"), findings, _Silent())
    return [f"verify: {finding}" for finding in findings.kept]
