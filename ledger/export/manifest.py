"""The manifest of an export: which entries are in which file, and the SHA-256 of each."""

import hashlib
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from ledger.store.hash_chain import BEGINNING

MANIFEST = "manifest.json"
FORMAT = "stockledger-export"
FORMAT_VERSION = 1
READ_BYTES = 1024 * 1024

FileFormat = Literal["ndjson", "parquet"]
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"events-[0-9]{12,20}-[0-9]{12,20}\.(ndjson|parquet)", re.ASCII)


class ExportError(Exception):
    """An export cannot be made, gone on with or read; the text says why."""


class DamagedExportError(ExportError):
    """A file is not what the manifest says it is."""

    def __init__(self, file: str, expected: str, found: str) -> None:
        super().__init__(f"{file}: expected {expected}; found {found}")
        self.file, self.expected, self.found = file, expected, found


class ExportedFile(Struct, frozen=True, forbid_unknown_fields=True):
    """Entries from position `first` to `last`; times are those of these two.

    `digest` is that of the last one in the log, `digest_before` that of the entry before the first, in hexadecimal.
    """

    name: str
    first: int
    last: int
    count: int
    bytes: int
    sha256: str
    digest_before: str
    digest: str
    first_recorded_at: datetime
    last_recorded_at: datetime


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """`events` counts the entries by name and version of their event.

    Files are in order and without gaps: what is in the manifest is a whole export of `first` to `last`, even if more
    was wanted.
    """

    ledger: str
    file_format: FileFormat
    first: int
    last: int
    count: int
    first_recorded_at: datetime | None
    last_recorded_at: datetime | None
    events: dict[str, int]
    files: list[ExportedFile]
    format: str = FORMAT
    format_version: int = FORMAT_VERSION


def load(folder: Path) -> Manifest | None:
    """The manifest of a folder, None if there is none; raises ExportError for one that cannot be meant."""
    try:
        text = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ExportError(f"{folder / MANIFEST} cannot be read: {error.strerror}") from error
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.DecodeError as error:
        raise ExportError(f"{folder / MANIFEST} is not the manifest of an export: {error}") from error
    if (manifest.format, manifest.format_version) != (FORMAT, FORMAT_VERSION):
        raise ExportError(f"{folder / MANIFEST} is of {manifest.format} {manifest.format_version}, not of {FORMAT} 1")
    _check(folder, manifest)
    return manifest


def save(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest at once: whatever is killed, the old one or the new one is there."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    partial = folder / f"{MANIFEST}.partial"
    with partial.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / MANIFEST)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make names in it durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_file(folder: Path, file: ExportedFile) -> None:
    """Raises DamagedExportError unless the file has the size and the SHA-256 that the manifest says."""
    digest = hashlib.sha256()
    size = 0
    try:
        with (folder / file.name).open("rb") as opened:
            while block := opened.read(READ_BYTES):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise DamagedExportError(file.name, "a file", error.strerror or str(error)) from error
    if size != file.bytes:
        raise DamagedExportError(file.name, f"{file.bytes} bytes", f"{size} bytes")
    if digest.hexdigest() != file.sha256:
        raise DamagedExportError(file.name, f"SHA-256 {file.sha256}", f"SHA-256 {digest.hexdigest()}")


def is_ours(name: str) -> bool:
    """Whether a file of that name was made by an export."""
    return _FILE_NAME.fullmatch(name.removesuffix(".partial")) is not None


def _check(folder: Path, manifest: Manifest) -> None:
    """Raises ExportError when the manifest does not agree with itself; names lead nowhere but into the folder."""
    position = manifest.first - 1
    digest = BEGINNING.hex() if manifest.first == 1 else manifest.files[0].digest_before if manifest.files else ""
    for file in manifest.files:
        if not is_ours(file.name) or file.name.endswith(".partial"):
            raise ExportError(f"{folder / MANIFEST} names a file {file.name!r}, which no export makes")
        if file.first != position + 1 or file.count != file.last - file.first + 1 or file.count < 1:
            raise ExportError(f"{folder / MANIFEST}: {file.name} does not follow position {position}")
        if file.digest_before != digest or not _DIGEST.fullmatch(file.digest):
            raise ExportError(f"{folder / MANIFEST}: {file.name} does not follow digest {digest}")
        position, digest = file.last, file.digest
    if (manifest.last, manifest.count) != (position, position - manifest.first + 1):
        raise ExportError(f"{folder / MANIFEST} does not agree with its files on the range")
    if sum(manifest.events.values()) != manifest.count:
        raise ExportError(f"{folder / MANIFEST} does not agree with itself on how many events there are")
