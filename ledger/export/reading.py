"""Reading an export back: its files checked against the manifest, then their entries in order."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ledger.audit.chain_check import Noted, Witness
from ledger.audit.findings import Finding, Findings
from ledger.export.files import read_file, read_lines
from ledger.export.manifest import MANIFEST, DamagedExportError, ExportedFile, ExportError, Manifest, check_file, load
from ledger.store.entry_lines import StoredEntry
from ledger.store.hash_chain import BEGINNING, seal


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

    def check_chain(self, findings: Findings, noted: Noted) -> bytes:
        """Whether the lines of each file make the digest that it ends with; returns the last one as they make it."""
        witness = Witness(noted, findings)
        digest = BEGINNING
        for file in self.manifest.files:
            digest = bytes.fromhex(file.digest_before)
            with contextlib.suppress(DamagedExportError):  # what cannot be read is told by who replays it
                for position, line in enumerate(read_lines(self.folder, file, self.manifest.file_format), file.first):
                    digest = seal(digest, line)
                    if 0 < witness.next <= position:
                        witness.take(position, digest)
            if digest.hex() != file.digest:
                error = DamagedExportError(file.name, f"lines that make digest {file.digest}", f"digest {digest.hex()}")
                _add(findings, error)
        witness.end()
        return digest

    def chunks(self, findings: Findings) -> Iterator[list[StoredEntry]]:
        """Entries of file after file; what cannot be read of a file is left out and told."""
        for file in self.manifest.files:
            yield from self._chunks_of(file, findings)

    def _chunks_of(self, file: ExportedFile, findings: Findings) -> Iterator[list[StoredEntry]]:
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


def _add(findings: Findings, error: DamagedExportError) -> None:
    findings.add(Finding(kind="export-damaged", file=error.file, expected=error.expected, found=error.found))
