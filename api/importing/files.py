"""The files of an import: rows from CSV or NDJSON, in constant memory.

Whatever a file holds, it comes out as rows or as what is wrong with them. What never lives here: what a row means.
"""

import csv
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Never, Self

import msgspec
from msgspec import Struct
from tqdm import tqdm

from api.settings import SettingError

Format = Literal["csv", "ndjson"]

# A longer line is no row of ours: it is refused, and not kept in memory.
MAX_LINE_BYTES = 1 << 20
# Rows of NDJSON that are looked at to learn which columns there are.
SAMPLE_ROWS = 100
READ_BYTES = 1 << 20

_SUFFIXES: dict[str, Format] = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_OBJECT: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


class Row(Struct):
    """A row that begins in line `line` (from 1): its cells as text, or what is wrong with it.

    `original` is what goes into the file of rejected rows: for CSV the cells, for NDJSON the line.
    """

    line: int
    cells: list[str]
    original: list[str]
    problem: str | None = None


class Source:
    """One file. `columns` are those of its header, or those that its first rows have."""

    def __init__(self, path: Path, form: Format | None) -> None:
        """Raises SettingError when there is no such file, or none that could be imported."""
        self.path = path
        self.form: Format = form or _format(path)
        self._stamp = (0, 0)
        with refusing(path), Opened(path) as file:
            self.size = file.size
            self.columns = self._header(file) if self.form == "csv" else self._sample(file)
        if not self.columns:
            raise SettingError(f"{path} holds no rows")

    def _header(self, file: "Opened") -> list[str]:
        return [cell.strip() for cell in next(_csv_rows(file, None), Row(1, [], [])).cells]

    def _sample(self, file: "Opened") -> list[str]:
        found: dict[str, None] = {}
        for _ in range(SAMPLE_ROWS):
            try:
                found |= dict.fromkeys(_OBJECT.decode(next(file)))
            except StopIteration:
                break
            except (ValueError, RecursionError):
                continue
        return list(found)

    @property
    def original_columns(self) -> list[str]:
        """What heads `Row.original`."""
        return self.columns if self.form == "csv" else ["row"]

    def header(self, used: list[str]) -> list[str]:
        """Which columns `rows(used)` gives cells for."""
        return self.columns if self.form == "csv" else used

    def digest(self) -> bytes:
        """SHA-256 of the content, uncompressed. Raises SettingError."""
        content = hashlib.sha256()
        with refusing(self.path), Opened(self.path) as file, self.bar("reading") as bar:
            self._stamp = file.stamp()
            while piece := file.read(READ_BYTES):
                content.update(piece)
                move(bar, file.position())
        return content.digest()

    def bar(self, what: str) -> "tqdm[Never]":
        """A progress bar over the bytes of the file, which only a terminal shows."""
        return tqdm(total=self.size, desc=f"{what} {self.path.name}", unit="B", unit_scale=True, disable=None)

    @contextmanager
    def rows(self, used: list[str]) -> Iterator[tuple[Iterator[Row], Callable[[], int]]]:
        """The rows, with cells for `header(used)`, and the position.

        The position counts the bytes read of the file as it is on disk. It raises SettingError if that is no longer
        what `digest` has seen, such as a file that is still being written.
        """

        def position() -> int:
            if file.stamp() != self._stamp:
                raise SettingError(f"{self.path} changes while it is read")
            return file.position()

        with Opened(self.path) as file:
            if self.form == "csv":
                next(_csv_rows(file, None), None)
                yield _csv_rows(file, len(self.columns)), position
            else:
                yield _ndjson_rows(file, used), position


def move(bar: "tqdm[Never]", position: int) -> None:
    """Show that so many bytes are behind us."""
    bar.update(position - bar.n)


class Opened:
    """The lines of a file as text, one at a time, compressed by gzip or not; `number` and `problem` are the last's."""

    def __init__(self, path: Path) -> None:
        self.number = 0
        self.problem: str | None = None
        self._stack = ExitStack()
        raw = self._stack.enter_context(io.BufferedReader(io.FileIO(path), READ_BYTES))
        self.size = os.fstat(raw.fileno()).st_size
        self._number = raw.fileno()
        self.position: Callable[[], int] = raw.tell
        content: IO[bytes] = raw
        if raw.peek(2)[:2] == _GZIP:
            unzipped = self._stack.enter_context(gzip.GzipFile(fileobj=raw))
            content = self._stack.enter_context(io.BufferedReader(unzipped, READ_BYTES))
        self.read = content.read
        self._readline = content.readline

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._readline(MAX_LINE_BYTES)
        if not line:
            raise StopIteration
        self.number += 1
        if self.number == 1:
            line = line.removeprefix(_BOM)
        if len(line) >= MAX_LINE_BYTES and not line.endswith(b"\n"):
            self._skip_line()
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            self.problem = self.problem or f"is not UTF-8 (byte {error.start + 1} of line {self.number})"
            return line.decode(errors="backslashreplace")

    def _skip_line(self) -> None:
        self.problem = f"has a line of more than {MAX_LINE_BYTES} bytes"
        while (more := self._readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
            pass

    def stamp(self) -> tuple[int, int]:
        """Differs once the file was written to."""
        status = os.fstat(self._number)
        return status.st_size, status.st_mtime_ns

    def take_problem(self) -> str | None:
        """What was wrong with the lines since the last call."""
        problem, self.problem = self.problem, None
        return problem


def _csv_rows(lines: Opened, width: int | None) -> Iterator[Row]:
    """Rows after RFC 4180; each must have `width` cells, if that is given."""
    reader = csv.reader(lines, strict=True)
    while True:
        first = lines.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lines.take_problem()
            yield Row(first, [], [], f"is not CSV (up to line {lines.number}): {error}")
            continue
        if lines.problem is None and len(cells) == width:
            yield Row(first, cells, cells)
        elif cells:
            wrong = None if width in (None, len(cells)) else f"has {len(cells)} cells, the header {width}"
            yield Row(first, cells, cells, lines.take_problem() or wrong)


def _ndjson_rows(lines: Opened, columns: Sequence[str]) -> Iterator[Row]:
    for text in lines:
        problem = lines.take_problem()
        original = text.rstrip("\r\n")
        if not original.strip():
            continue
        cells: list[str] = []
        try:
            record = _OBJECT.decode(text)
            cells = [_as_text(record.get(column), column) for column in columns]
        except (ValueError, RecursionError) as error:
            problem = problem or f"is not a row: {error}"
        yield Row(lines.number, cells, [original], problem)


def _as_text(value: Any, column: str) -> str:
    """A member as a cell of CSV would have it; null is an empty one."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    raise ValueError(f"{column} must not be a list or an object")


def _format(path: Path) -> Format:
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix not in _SUFFIXES:
        raise SettingError(f"cannot tell the format of {path} by its name: give --format csv or --format ndjson")
    return _SUFFIXES[suffix]


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Raises SettingError for a file that cannot be read."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SettingError(f"{path} cannot be decompressed: {error}") from None
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror or error}") from None
