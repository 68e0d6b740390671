"""Verifying a ledger or an export of one: the log replayed through the rules, the read models compared with it."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Protocol

from msgspec import Struct

from ledger.audit.chain_check import ChainCheck, Noted
from ledger.audit.findings import Findings
from ledger.audit.replay import Replay
from ledger.export.reading import ExportedLog
from ledger.store.connection import Connection
from ledger.store.entry_lines import StoredEntry
from ledger.store.mapper import to_events_strictly
from ledger.store.scan import Scan, read_anyhow, read_sealed
from projections.verifying.comparison import Comparison, copy_tables
from projections.verifying.expected import ExpectedRows
from projections.verifying.followed import FollowedRows
from projections.verifying.spool import Spool
from projections.verifying.tables import FOLLOWING, INLINE
from projections.worker_process import WorkerProcess

TABLES = INLINE + FOLLOWING


class Progress(Protocol):
    """Told how far a verification is."""

    def begin(self, stage: str, total: int | None, unit: str) -> None: ...
    def moved(self, by: int) -> None: ...


class Verified(Struct, frozen=True):
    """What was looked at: entries `first` to `last`, and so many rows of each table (none for an export).

    `digest` is that of the last entry, in hexadecimal, None
    if there is none.
    """

    first: int
    last: int
    digest: str | None
    entries: int
    replayed: bool
    last_recorded_at: datetime | None
    rows: dict[str, int]


def verify_ledger(
    connect: Callable[[], Connection], findings: Findings, progress: Progress, noted: Noted | None = None
) -> Verified:
    """Take down the read models as of one moment, then replay the log up to that moment and compare.

    `noted` has digests that were noted down, by position. Another process checks the chain meanwhile.
    Writers are not kept waiting, and nothing is written to the database.
    Raises psycopg.Error, and OSError when there is no room for temporary files.
    """
    with Spool() as spool:
        rows: dict[str, int] = {}
        with connect() as conn:
            for_tables = _Counted(progress, rows)
            last, followed = copy_tables(conn, spool, TABLES, for_tables.begin, for_tables.moved)
        with WorkerProcess(partial(_check_chain, connect, last, findings.max_kept, noted or {})) as chain:
            progress.begin("replaying", last, "event")
            with Scan(connect, read_anyhow, 0, last) as chunks:
                run = _Replayed(spool, findings, progress, followed)
                entries = run.take(chunks)
            run.compare()
            digest = chain.result().told(findings, entries)
        return Verified(1, last, digest, entries, True, run.last_recorded_at, rows)


def verify_export(
    exported: ExportedLog, findings: Findings, progress: Progress, noted: Noted | None = None
) -> Verified:
    """Check the files of an export and its chain, and replay it; needs no database.

    An export that does not begin with position 1 is not replayed: what came before is not known.
    """
    manifest = exported.manifest
    first, last, count = manifest.first, manifest.last, manifest.count
    progress.begin("checking files", len(manifest.files), "file")
    exported.check_files(findings)
    with WorkerProcess(partial(_check_exported_chain, exported, findings.max_kept, noted or {})) as chain:
        if first != 1:
            digest = chain.result().told(findings, count)
            return Verified(first, last, digest, count, False, manifest.last_recorded_at, {})
        progress.begin("replaying", count, "event")
        with Spool() as spool:
            run = _Replayed(spool, findings, progress)
            entries = run.take(exported.chunks(findings))
            run.compare()
        digest = chain.result().told(findings, entries)
    return Verified(1, last, digest, entries, True, run.last_recorded_at, {})


class _Chain(Struct):
    """What a check of the chain has to say, to be sent from one process to another."""

    digest: bytes
    findings: Findings

    def told(self, findings: Findings, entries: int) -> str | None:
        """Hand the findings on; returns the last digest in hexadecimal, None if there are no entries."""
        findings.join(self.findings)
        return self.digest.hex() if entries else None


def _check_chain(connect: Callable[[], Connection], last: int, max_kept: int, noted: Noted) -> _Chain:
    findings = Findings(max_kept)
    seals = ChainCheck(findings, noted)
    with Scan(connect, read_sealed, 0, last) as chunks:
        for chunk in chunks:
            seals.take(chunk)
    seals.end()
    return _Chain(seals.digest, findings)


def _check_exported_chain(exported: ExportedLog, max_kept: int, noted: Noted) -> _Chain:
    findings = Findings(max_kept)
    return _Chain(exported.check_chain(findings, noted), findings)


class _Replayed:
    """A replay, and the comparison with what was taken down; `followed` is None where there are no tables."""

    def __init__(
        self, spool: Spool, findings: Findings, progress: Progress, followed: Mapping[str, int] | None = None
    ) -> None:
        self._spool, self._findings, self._progress = spool, findings, progress
        self.last_recorded_at: datetime | None = None
        self._expected = ExpectedRows(spool)
        self._followed = None if followed is None else FollowedRows(self._expected.put, followed)
        watch = None if self._followed is None else self._followed.take
        self._replay = Replay(to_events_strictly, findings, self._expected, watch)

    def take(self, chunks: Iterable[list[StoredEntry]]) -> int:
        """Replay a log to its end; returns how many entries it has."""
        entries = 0
        for chunk in chunks:
            self._replay.take(chunk)
            entries += len(chunk)
            self._progress.moved(len(chunk))
        if entries:
            self.last_recorded_at = self._replay.recorded_at
        if self._followed is not None:
            self._followed.end()
        self._expected.end(self._replay)
        return entries

    def compare(self) -> None:
        self._progress.begin("comparing", None, "row")
        tables = () if self._followed is None else TABLES
        Comparison(self._spool, tables, self._findings, self._replay.last_position).run()


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
