"""Rows in temporary files, in buckets by a hash of their key: what belongs together is in the same bucket."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from zlib import crc32

BUCKETS = 64
# What may wait in memory to be written, both sides together.
MAX_WAITING_BYTES = 16 * 1024 * 1024

Side = Literal["log", "table"]


class Spool:
    """A context manager; its files are gone at the end. They are made in the folder that TMPDIR names."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="stockledger-verify-"))
        self._waiting: dict[Side, list[list[bytes]]] = {side: [[] for _ in range(BUCKETS)] for side in ("log", "table")}
        self._bytes = 0

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, side: Side, tag: bytes, key: bytes, row: bytes) -> None:
        """`tag`, one byte, says of which kind the row is; `row` holds no line's end. Raises OSError on a full disk."""
        self._waiting[side][crc32(key) % BUCKETS].append(tag + row)
        self._bytes += len(row) + 2
        if self._bytes >= MAX_WAITING_BYTES:
            self.flush()

    def flush(self) -> None:
        for side, buckets in self._waiting.items():
            for number, rows in enumerate(buckets):
                if rows:
                    with self._path(side, number).open("ab") as file:
                        file.write(b"\n".join(rows) + b"\n")
                    rows.clear()
        self._bytes = 0

    def rows(self, side: Side, bucket: int) -> Iterator[tuple[bytes, bytes]]:
        """(tag, row) in the order in which they were added; the spool must have been flushed."""
        path = self._path(side, bucket)
        if path.exists():
            with path.open("rb") as file:
                for line in file:
                    yield line[:1], line[1:-1]

    def _path(self, side: Side, bucket: int) -> Path:
        return self._folder / f"{side}-{bucket:02}"
