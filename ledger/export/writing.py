"""Writing an export: a range of the log into a folder, a file at a time, going on where an earlier run ended."""

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import structs

from ledger.export.files import PARTIAL, WrittenFile, require
from ledger.export.manifest import MANIFEST, ExportError, FileFormat, Manifest, check_file, is_ours, load, save
from ledger.store.connection import Connection
from ledger.store.entry_lines import StoredEntry, to_line
from ledger.store.hash_chain import seal
from ledger.store.scan import CHUNK_ENTRIES, Scan, digest_at, read_range

MAX_FILE_ENTRIES = 10_000_000


class Export:
    """`connect` opens connections to the ledger named `ledger`; the entries from position `first` on go to `folder`.

    `manifest` says what is in the folder now.
    """

    def __init__(
        self, connect: Callable[[], Connection], ledger: str, folder: Path, file_format: FileFormat, first: int = 1
    ) -> None:
        self._connect = connect
        self._folder = folder
        self.manifest = Manifest(
            ledger=ledger,
            file_format=file_format,
            first=first,
            last=first - 1,
            count=0,
            first_recorded_at=None,
            last_recorded_at=None,
            events={},
            files=[],
        )

    def resume(self) -> None:
        """Check what an earlier run has left, and go on from there.

        Raises ExportError when the folder holds another export, or one that does not fit the log.
        """
        require(self.manifest.file_format)
        found = load(self._folder)
        if found is None:
            if left := [path.name for path in self._folder.iterdir() if not self._is_left(path.name)]:
                raise ExportError(f"{self._folder} holds {left[0]} and no {MANIFEST}: name an empty folder")
            return
        for name in ("ledger", "file_format", "first"):
            was, asked = getattr(found, name), getattr(self.manifest, name)
            if was != asked:
                raise ExportError(
                    f"{self._folder} holds an export of {name} {was!r}, not {asked!r}: name another folder"
                )
        for file in found.files:
            check_file(self._folder, file)
        if found.count:
            self._check_last(found)
        self.manifest = found

    def run(self, to: int, file_entries: int, moved: Callable[[int], None]) -> None:
        """Write what is missing up to position `to`; `moved` is told how many entries were written.

        Raises OSError on a full disk and psycopg.Error; what is in the manifest then stays as it is.
        """
        self._remove_leavings()
        while self.manifest.last < to:
            self._write_file(min(self.manifest.last + file_entries, to), moved)
        if not self.manifest.files:
            save(self._folder, self.manifest)

    def _write_file(self, to: int, moved: Callable[[int], None]) -> None:
        before = self.manifest
        after = before.last
        name = f"events-{after + 1:012}-{to:012}.{before.file_format}"
        events = Counter(before.events)
        last: StoredEntry | None = None
        with (
            WrittenFile(self._folder, name, before.file_format) as file,
            Scan(self._connect, read_range, after, to, min(CHUNK_ENTRIES, to - after)) as chunks,
        ):
            for entries in chunks:
                _check_whole(entries, after)
                after += len(entries)
                events.update([entry.name for entry in entries])
                file.write(entries)
                last = entries[-1] if entries else last
                moved(len(entries))
            if last is None or last.position != to:
                raise ExportError(f"the log has a gap before position {to}: run 'stockledger verify'")
            written = file.finish(*self._digests(before.last, to))
        self.manifest = structs.replace(
            before,
            last=to,
            count=before.count + written.count,
            first_recorded_at=before.first_recorded_at or written.first_recorded_at,
            last_recorded_at=written.last_recorded_at,
            events=dict(sorted(events.items())),
            files=[*before.files, written],
        )
        save(self._folder, self.manifest)

    def _digests(self, *positions: int) -> list[bytes]:
        """Of each position, as they are stored; raises ExportError for one that the log does not have."""
        with self._connect() as conn:
            digests = [digest_at(conn, position) for position in positions]
        found = [digest for digest in digests if digest is not None]
        if len(found) < len(positions):
            raise ExportError(f"the log has a gap among positions {positions}: run 'stockledger verify'")
        return found

    def _check_last(self, found: Manifest) -> None:
        """The log must still say what the export ends with."""
        before, _ = self._digests(found.last - 1, found.last)
        with self._connect() as conn:
            entries = read_range(conn, found.last - 1, found.last)
        if [seal(before, to_line(entry)).hex() for entry in entries] != [found.files[-1].digest]:
            raise ExportError(f"{self._folder} ends with another entry at position {found.last} than the log has there")

    def _is_left(self, name: str) -> bool:
        """Whether a killed run can have left a file of that name."""
        return is_ours(name) or name in (f"{MANIFEST}{PARTIAL}", LOCK)

    def _remove_leavings(self) -> None:
        kept = {file.name for file in self.manifest.files}
        for path in self._folder.iterdir():
            if path.name not in kept and path.name != LOCK and self._is_left(path.name):
                path.unlink()


LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder if there is none, and be the only one that exports into it; raises ExportError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written to: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ExportError(f"another process exports into {folder}") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _check_whole(entries: list[StoredEntry], after: int) -> None:
    """Raises ExportError for a gap: a manifest must not call that whole."""
    if [entry.position for entry in entries] != list(range(after + 1, after + 1 + len(entries))):
        raise ExportError(f"the log has a gap after position {after}: run 'stockledger verify'")
