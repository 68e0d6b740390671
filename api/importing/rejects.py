"""The file of the rows that an import rejects: CSV, to be corrected and imported in its turn."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from api.importing.files import Source, refusing
from api.settings import SettingError

HEADER = ("file", "line", "problem", "detail")


class Rejected(NamedTuple):
    """`problem` is a slug as the API has them, `original` the cells under the source's `original_columns`."""

    line: int
    problem: str
    detail: str
    original: list[str]


class Rejects:
    """Rejected rows as CSV: the file, the line, the problem's slug and text, and the row as it was.

    Rows are on disk here before the transaction that counts them commits; when an import goes on, what nobody counted
    is cut off. So none is lost and none is there twice.
    """

    def __init__(self, path: Path, source: Source) -> None:
        """Raises SettingError when that is the file itself, or one that holds anything but rejected rows."""
        self.path = path
        self._name = source.path.name
        self._header = [*HEADER, *source.original_columns]
        if not os.access(path.parent, os.W_OK):
            raise SettingError(f"{path} cannot be written: name another file with --rejects")
        beginning = b""
        if path.exists():
            with refusing(path), path.open("rb") as file:
                beginning = file.read(100)
        if beginning and (path.samefile(source.path) or not beginning.startswith(",".join(HEADER).encode())):
            raise SettingError(f"{path} exists and holds something else: name another file with --rejects")

    def cut(self, size: int) -> int:
        """Keep the first `size` bytes; returns how many there are, which is less if the file was tampered with."""
        if size == 0:
            self.path.unlink(missing_ok=True)
        if not self.path.exists():
            return 0
        left = min(size, self.path.stat().st_size)
        os.truncate(self.path, left)
        return left

    def add(self, rows: Sequence[Rejected], size: int) -> int:
        """Write rows behind the `size` bytes that are there; returns how many there are then."""
        if not rows:
            return size
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if size == 0:
            writer.writerow(self._header)
        for row in rows:
            writer.writerow([self._name, *row[:3], *row.original])
        with self.path.open("ab") as file:
            file.write(text.getvalue().encode())
            file.flush()
            os.fsync(file.fileno())
            return file.tell()
