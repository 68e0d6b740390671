"""Verifying a ledger or an export of one: the log replayed through the rules, the read models compared with it."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from ledger.audit.findings import Findings
from ledger.audit.replay import Replay
from ledger.export.reading import Against, ExportedLog
from ledger.store.connection import Connection
from ledger.store.lines import StoredEntry
from ledger.store.mapper import to_event_strictly
from ledger.store.scan import Scan
from projections.comparing.comparison import Comparison, copy_tables
from projections.comparing.expected import ExpectedRows
from projections.comparing.followed import FollowedRows
from projections.comparing.spool import Spool
from projections.comparing.tables import FOLLOWING, INLINE

TABLES = INLINE + FOLLOWING


class Progress(Protocol):
    """Told how far a verification is."""

    def begin(self, stage: str, total: int | None, unit: str) -> None: ...
    def moved(self, by: int) -> None: ...


class Verified(Struct, frozen=True):
    """What was looked at: entries `first` to `last`, and so many rows of each table (none for an export)."""

    first: int
    last: int
    entries: int
    replayed: bool
    last_recorded_at: datetime | None
    rows: dict[str, int]


def verify_ledger(
    connect: Callable[[], Connection], findings: Findings, progress: Progress, against: ExportedLog | None = None
) -> Verified:
    """Take down the read models as of one moment, then replay the log up to that moment and compare.

    Writers are not kept waiting, and nothing is written to the database.
    Raises psycopg.Error, and OSError when there is no room for temporary files.
    """
    with Spool() as spool:
        rows: dict[str, int] = {}
        with connect() as conn:
            for_tables = _Counted(progress, rows)
            last, followed = copy_tables(conn, spool, TABLES, for_tables.begin, for_tables.moved)
        progress.begin("replaying", last, "event")
        beside = Against(against, findings) if against is not None else None
        with Scan(connect, 0, last) as chunks:
            replayed = _Replayed(spool, findings, progress, followed)
            return replayed.run(chunks, last, beside, rows)


def verify_export(exported: ExportedLog, findings: Findings, progress: Progress) -> Verified:
    """Check the files of an export and replay it; needs no database.

    An export that does not begin with position 1 is checked as files alone: what came before is not known.
    """
    manifest = exported.manifest
    progress.begin("checking files", len(manifest.files), "file")
    exported.check_files(findings)
    if manifest.first != 1:
        return Verified(manifest.first, manifest.last, manifest.count, False, manifest.last_recorded_at, {})
    progress.begin("replaying", manifest.count, "event")
    with Spool() as spool:
        return _Replayed(spool, findings, progress).run(exported.chunks(findings), manifest.last)


class _Replayed:
    """A replay, and the comparison with what was taken down; `followed` is None where there are no tables."""

    def __init__(
        self, spool: Spool, findings: Findings, progress: Progress, followed: Mapping[str, int] | None = None
    ) -> None:
        self._spool, self._findings, self._progress = spool, findings, progress
        self._expected = ExpectedRows(spool)
        self._followed = None if followed is None else FollowedRows(self._expected.put, followed)
        watch = None if self._followed is None else self._followed.take
        self._replay = Replay(to_event_strictly, findings, self._expected, watch)

    def run(
        self,
        chunks: Iterable[list[StoredEntry]],
        last: int,
        beside: Against | None = None,
        rows: dict[str, int] | None = None,
    ) -> Verified:
        entries = 0
        for chunk in chunks:
            if beside is not None:
                beside.take(chunk)
            self._replay.take(chunk)
            entries += len(chunk)
            self._progress.moved(len(chunk))
        if beside is not None:
            beside.end()
        if self._followed is not None:
            self._followed.end()
        self._expected.end(self._replay)
        self._progress.begin("comparing", None, "row")
        tables = () if self._followed is None else TABLES
        Comparison(self._spool, tables, self._findings, self._replay.last_position).run()
        return Verified(1, last, entries, True, self._replay.recorded_at if entries else None, rows or {})


class _Counted:
    """Counts the rows of each table on their way to the progress."""

    def __init__(self, progress: Progress, rows: dict[str, int]) -> None:
        self._progress, self._rows, self._table = progress, rows, ""

    def begin(self, table: str) -> None:
        self._table = table
        self._rows[table] = 0
        self._progress.begin(f"reading {table}", None, "row")

    def moved(self, by: int) -> None:
        self._rows[self._table] += by
        self._progress.moved(by)
