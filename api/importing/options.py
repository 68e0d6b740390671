"""What `stockledger import` is told on its command line, and the imports that come of it: a file, and what it means."""

import argparse
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import Struct

from api.importing.files import Format, Source
from api.importing.rejects import Rejects
from api.importing.rows import COLUMNS, Direction, Keep, Kind, Meaning, Where, find_columns, guess_kind, require_column
from api.settings import SettingError
from ledger.store.imports import Import

DEFAULT_BATCH = 2_000
# Rows in one transaction: more would keep the service waiting for the log's lock.
MAX_BATCH = 10_000
# Hexadecimal digits that tell an import from all others of a ledger.
ID_DIGITS = 16


class ImportOptions(Struct, frozen=True):
    """`batch` rows go into one transaction; a hold lasts `ttl_seconds` where its row does not say."""

    source: Source
    meaning: Meaning
    which: Import
    rejects: Rejects
    batch: int
    ttl_seconds: int

    def __str__(self) -> str:
        """How the file is read, so that a slip in a column's name is seen."""
        said = {**self.meaning.columns, **{name: repr(value) for name, value in self.meaning.constants.items()}}
        unused = [column for column in self.source.columns if column not in self.meaning.used()]
        told = ", ".join(f"{name} is {column}" for name, column in said.items())
        return f"{self.source.path} as {self.meaning.kind}: {told}; not used: {', '.join(unused) or 'nothing'}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that other commands do not have."""
    parser.description = (
        "Record products or movements from CSV or NDJSON files. Each row is recorded once: killed half-way and run"
        " again, an import goes on where it was, and a file that was imported is not imported again."
    )
    kinds = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in COLUMNS.items())
    parser.epilog = f"Columns of {kinds}. docs/import.md explains them, with examples."
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="CSV or NDJSON in UTF-8, compressed by gzip or not")
    add("--kind", choices=get_args(Kind), help="what the rows are (default: as the columns tell)")
    add("--format", choices=get_args(Format), help="of the files (default: as .csv, .ndjson or .jsonl tells)")
    add("--map", action="append", default=[], metavar="NAME=COLUMN", help="the file's COLUMN is what we call NAME")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="NAME is VALUE in every row")
    where = "take only rows whose COLUMN matches the shell PATTERN, or with != does not"
    add("--where", action="append", default=[], metavar="COLUMN=PATTERN", help=where)
    direction = "where movements with a positive quantity go (default: in); negative ones go the other way"
    add("--direction", choices=get_args(Direction), help=direction)
    opening = "movements: first add to each SKU the least stock from which they all can be made"
    add("--opening", action="store_true", help=opening)
    keep = "products: which of several rows for one SKU counts for each member (default: last)"
    add("--keep", choices=get_args(Keep), help=keep)
    add("--dry-run", action="store_true", help="read and check every row, but write nothing and use no database")
    rejects = "CSV file for rejected rows (default: FILE.<id>.rejects.csv beside it)"
    add("--rejects", type=Path, metavar="FILE", help=rejects)
    add("--batch", type=_batch, default=DEFAULT_BATCH, metavar="N", help="rows in a transaction (default: %(default)s)")
    add("--again", action="store_true", help="import once more what was imported before")


def read_options(chosen: argparse.Namespace, ttl_seconds: int) -> list[ImportOptions]:
    """Options for each file, read once to know it by its content; raises SettingError before any is carried out."""
    if chosen.rejects is not None and len(chosen.files) > 1:
        raise SettingError("--rejects is for one file: import them one by one")
    sources = [Source(path, chosen.format) for path in chosen.files]
    meanings = [_meaning(chosen, source) for source in sources]
    return [_options(chosen, source, meaning, ttl_seconds) for source, meaning in zip(sources, meanings, strict=True)]


def _options(chosen: argparse.Namespace, source: Source, meaning: Meaning, ttl_seconds: int) -> ImportOptions:
    """The same content with the same meaning is the same import, wherever the file lies and whatever its name."""
    told = msgspec.json.encode(meaning, order="deterministic")
    import_id = hashlib.sha256(source.digest() + told).hexdigest()[:ID_DIGITS]
    rejects = Rejects(chosen.rejects or _beside(source.path, f"{import_id}.rejects.csv"), source)
    which = Import(import_id, str(source.path.absolute()), told.decode())
    return ImportOptions(source, meaning, which, rejects, chosen.batch, ttl_seconds)


def _beside(path: Path, suffix: str) -> Path:
    """A file next to `path`; in the current folder where that is not ours to write to."""
    folder = path.parent if os.access(path.parent, os.W_OK) else Path.cwd()
    return folder / f"{path.name}.{suffix}"


def _meaning(chosen: argparse.Namespace, source: Source) -> Meaning:
    mapped, constants = _pairs("--map", chosen.map), _pairs("--set", chosen.set)
    kind = chosen.kind or guess_kind([*source.columns, *mapped, *constants])
    columns = find_columns(kind, source.columns, mapped, constants)
    where = tuple(_where(text, source) for text in chosen.where)
    _refuse_misfits(kind, chosen, {*columns, *constants})
    more: dict[str, Any] = {"direction": chosen.direction, "keep": chosen.keep, "opening": chosen.opening}
    given = {name: value for name, value in more.items() if value}
    return Meaning(kind=kind, columns=columns, constants=constants, where=where, **given)


def _refuse_misfits(kind: Kind, chosen: argparse.Namespace, names: set[str]) -> None:
    """Raises SettingError for options that say nothing about rows of this kind."""
    other = {"products": ("direction", "opening"), "movements": ("keep",)}[kind]
    for name in other:
        if getattr(chosen, name):
            raise SettingError(f"--{name} is not for {kind}")
    if chosen.direction and "movement" in names:
        raise SettingError("--direction is for rows that do not say their movement")


def _pairs(flag: str, texts: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or name in pairs:
            raise SettingError(f"{flag} {text!r} must be NAME=..., once for each name")
        pairs[name] = value
    return pairs


def _where(text: str, source: Source) -> Where:
    column, equals, pattern = text.partition("=")
    if not equals:
        raise SettingError(f"--where {text!r} must be COLUMN=PATTERN or COLUMN!=PATTERN")
    where = Where(column.removesuffix("!"), pattern, not column.endswith("!"))
    require_column(where.column, source.columns)
    return where


def _batch(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_BATCH:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MAX_BATCH}")
    return int(text)
