"""The files of an export, NDJSON or Parquet: written in one go under another name, read in order."""

import contextlib
import hashlib
import importlib
import os
from collections.abc import Iterator, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ledger.export.manifest import DamagedExportError, ExportedFile, ExportError, FileFormat, sync_folder
from ledger.store.entry_lines import StoredEntry, from_line, to_line

PARTIAL = ".partial"
CHUNK_ENTRIES = 10_000
# A line that is longer is none of ours: an event's texts are limited.
MAX_LINE_BYTES = 16 * 1024 * 1024


class Sink(Protocol):
    def write(self, entries: Sequence[StoredEntry]) -> None: ...
    def close(self) -> None: ...


class WrittenFile:
    """A file that gets its name once it is whole and on disk; a context manager that removes it if that fails."""

    def __init__(self, folder: Path, name: str, file_format: FileFormat) -> None:
        self._folder, self._name = folder, name
        self._partial = folder / (name + PARTIAL)
        make_sink = _Lines if file_format == "ndjson" else _Parquet
        require(file_format)
        self._file = _Hashing(self._partial.open("wb"))
        self._sink: Sink = make_sink(self._file)
        self._first: StoredEntry | None = None
        self._last: StoredEntry | None = None

    def __enter__(self) -> "WrittenFile":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # it may be the full disk that brings us here
            self._sink.close()
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def write(self, entries: Sequence[StoredEntry]) -> None:
        """Raises OSError on a full disk."""
        if entries:
            self._first = self._first or entries[0]
            self._last = entries[-1]
            self._sink.write(entries)

    def finish(self, digest_before: bytes, digest: bytes) -> ExportedFile:
        """The digests are those before the first entry and of the last one."""
        assert self._first is not None, "something was written"
        assert self._last is not None, "something was written"
        self._sink.close()
        self._file.sync()
        self._partial.replace(self._folder / self._name)
        sync_folder(self._folder)
        return ExportedFile(
            name=self._name,
            first=self._first.position,
            last=self._last.position,
            count=self._last.position - self._first.position + 1,
            bytes=self._file.size,
            sha256=self._file.digest.hexdigest(),
            digest_before=digest_before.hex(),
            digest=digest.hex(),
            first_recorded_at=self._first.recorded_at,
            last_recorded_at=self._last.recorded_at,
        )


def read_file(folder: Path, file: ExportedFile, file_format: FileFormat) -> Iterator[list[StoredEntry]]:
    """Its entries in order, in chunks; raises DamagedExportError for one that no export makes."""
    try:
        if file_format == "ndjson":
            with (folder / file.name).open("rb") as opened:
                yield from _read_lines(opened, file.name)
        else:
            yield from _read_parquet(folder / file.name)
    except OSError as error:
        raise DamagedExportError(file.name, "a file that can be read", error.strerror or str(error)) from error


def read_lines(folder: Path, file: ExportedFile, file_format: FileFormat) -> Iterator[bytes]:
    """Its entries in order as lines, those of NDJSON as they are; raises DamagedExportError."""
    if file_format == "ndjson":
        try:
            with (folder / file.name).open("rb") as opened:
                while line := opened.readline(MAX_LINE_BYTES):
                    yield line.removesuffix(b"\n")
        except OSError as error:
            raise DamagedExportError(file.name, "a file that can be read", error.strerror or str(error)) from error
    else:
        for entries in read_file(folder, file, file_format):
            yield from map(to_line, entries)


def _read_lines(opened: BinaryIO, name: str) -> Iterator[list[StoredEntry]]:
    number = 0
    entries: list[StoredEntry] = []
    while line := opened.readline(MAX_LINE_BYTES):
        number += 1
        try:
            entries.append(from_line(line.removesuffix(b"\n")))
        except ValueError as error:
            raise DamagedExportError(f"{name}:{number}", "an entry of the log", str(error)) from error
        if len(entries) >= CHUNK_ENTRIES:
            yield entries
            entries = []
    yield entries


def _read_parquet(path: Path) -> Iterator[list[StoredEntry]]:
    parquet, pyarrow = _pyarrow("parquet"), _pyarrow()
    try:
        with parquet.ParquetFile(path) as opened:
            for batch in opened.iter_batches(CHUNK_ENTRIES):
                columns = [column.to_pylist() for column in batch.columns]
                yield [
                    StoredEntry(position, recorded_at.astimezone(UTC), stream, version, event, data.encode())
                    for position, recorded_at, stream, version, event, data in zip(*columns, strict=True)
                ]
    except (pyarrow.ArrowException, ValueError, AttributeError) as error:
        raise DamagedExportError(path.name, "entries of the log", str(error)) from error


class _Hashing:
    """A file that knows its size and SHA-256 as it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, block: bytes) -> int:
        self._file.write(block)
        self.digest.update(block)
        self.size += len(block)
        return len(block)

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def flush(self) -> None:
        self._file.flush()

    def tell(self) -> int:
        return self.size

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what was to be kept has been flushed by then
            self._file.close()
        self.closed = True


class _Lines:
    def __init__(self, file: _Hashing) -> None:
        self._file = file

    def write(self, entries: Sequence[StoredEntry]) -> None:
        self._file.write(b"\n".join([to_line(entry) for entry in entries]) + b"\n")

    def close(self) -> None:
        pass


class _Parquet:
    """Columns as the lines have members; `data` is the event's JSON, byte for byte."""

    def __init__(self, file: _Hashing) -> None:
        pyarrow = _pyarrow()
        self._pyarrow = pyarrow
        self._schema = pyarrow.schema(
            [
                ("position", pyarrow.int64()),
                ("recorded_at", pyarrow.timestamp("us", tz="UTC")),
                ("stream", pyarrow.string()),
                ("version", pyarrow.int64()),
                ("event", pyarrow.string()),
                ("data", pyarrow.string()),
            ]
        )
        self._writer = _pyarrow("parquet").ParquetWriter(
            pyarrow.PythonFile(file, "w"), self._schema, compression="zstd"
        )

    def write(self, entries: Sequence[StoredEntry]) -> None:
        columns: list[Sequence[Any]] = list(zip(*entries, strict=True))
        try:
            columns[5] = [state.decode() for state in columns[5]]
        except UnicodeDecodeError:
            raise ExportError(
                f"an event after position {entries[0].position - 1} is not text: verify the log"
            ) from None
        arrays = [self._pyarrow.array(c, field.type) for c, field in zip(columns, self._schema, strict=True)]
        self._writer.write_batch(self._pyarrow.record_batch(arrays, schema=self._schema))

    def close(self) -> None:
        self._writer.close()  # once more does nothing


def require(file_format: FileFormat) -> None:
    """Raises ExportError when files of that format cannot be written or read here."""
    if file_format == "parquet":
        _pyarrow("parquet")


def _pyarrow(module: str = "") -> Any:
    """Parquet is an extra; raises ExportError when it is not installed."""
    try:
        pyarrow = importlib.import_module("pyarrow")
        return importlib.import_module(f"pyarrow.{module}") if module else pyarrow
    except ImportError:
        raise ExportError("Parquet needs pyarrow: pip install 'stockledger[parquet]'") from None
