"""Reading an export back: its files checked against the manifest, then their entries in order."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ledger.audit.findings import Finding, Findings
from ledger.export.files import read_file
from ledger.export.manifest import MANIFEST, DamagedExportError, ExportError, Manifest, check_file, load
from ledger.store.lines import StoredEntry, to_line


class ExportedLog:
    """An export in a folder, or the one that a manifest is named of. Raises ExportError when there is none."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent if path.name == MANIFEST else path
        manifest = load(self.folder)
        if manifest is None:
            raise ExportError(f"{self.folder} holds no {MANIFEST}")
        self.manifest: Manifest = manifest

    def check_files(self, findings: Findings) -> bool:
        """Whether each file is, to the byte, what the manifest says."""
        whole = True
        for file in self.manifest.files:
            try:
                check_file(self.folder, file)
            except DamagedExportError as error:
                _add(findings, error)
                whole = False
        return whole

    def chunks(self, findings: Findings) -> Iterator[list[StoredEntry]]:
        """Entries of file after file; what cannot be read of a file is left out and told."""
        for file in self.manifest.files:
            count = 0
            try:
                for entries in read_file(self.folder, file, self.manifest.file_format):
                    count += len(entries)
                    yield entries
            except DamagedExportError as error:
                _add(findings, error)
            else:
                if count != file.count:
                    _add(findings, DamagedExportError(file.name, f"{file.count} entries", str(count)))


class Against:
    """The log beside an export of it, entry by entry: each must be what it was when it was exported, byte for byte."""

    def __init__(self, exported: ExportedLog, findings: Findings) -> None:
        self._findings = findings
        self._next = exported.manifest.first
        self._entries = (entry for chunk in exported.chunks(findings) for entry in chunk)
        self._waiting: StoredEntry | None = next(self._entries, None)

    def take(self, chunk: Sequence[StoredEntry]) -> None:
        for entry in chunk:
            while self._waiting is not None and self._waiting.position < entry.position:
                self._differs(self._waiting, None)
            if self._waiting is None:
                return
            if self._waiting.position == entry.position:
                if self._waiting != entry:
                    self._differs(self._waiting, entry)
                else:
                    self._waiting = next(self._entries, None)

    def end(self) -> None:
        """The log ends here: what the export has beyond is missing."""
        while self._waiting is not None:
            self._differs(self._waiting, None)

    def _differs(self, exported: StoredEntry, entry: StoredEntry | None) -> None:
        found = to_line(entry).decode(errors="backslashreplace") if entry is not None else "nothing"
        wanted = to_line(exported).decode(errors="backslashreplace")
        self._findings.at(exported, "differs-from-export", wanted, found)
        self._waiting = next(self._entries, None)


def _add(findings: Findings, error: DamagedExportError) -> None:
    findings.add(Finding(kind="export-damaged", file=error.file, expected=error.expected, found=error.found))
