"""`stockledger export`: the log, or a range of it, in files that anyone can keep and check."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import get_args

import msgspec

from api.commands.progress import Bars
from api.database import database_as_it_is
from api.settings import SettingError, Settings
from ledger.export.manifest import MANIFEST, ExportError, FileFormat, Manifest
from ledger.export.writing import MAX_FILE_ENTRIES, Export, locked
from ledger.store.connection import BoundedConnection, connect
from ledger.store.scan import head

DEFAULT_FILE_ENTRIES = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write the log to files in a folder, with a manifest of their ranges and SHA-256. Run again into the same"
        " folder, it goes on where it was: after a kill, or with what has been recorded since."
    )
    parser.epilog = "docs/auditing.md explains the files and how to verify them elsewhere."
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="where to; made if there is none")
    add("--format", choices=get_args(FileFormat), default="ndjson", help="of the files (default: %(default)s)")
    add("--from", dest="first", type=_position, default=1, metavar="N", help="first position (default: %(default)s)")
    add("--to", dest="last", type=_position, metavar="N", help="last position (default: the log's last at the start)")
    chunk = "events in a file (default: %(default)s)"
    add("--chunk", type=_file_entries, default=DEFAULT_FILE_ENTRIES, metavar="N", help=chunk)
    add("--json", action="store_true", help="print the manifest instead of a sentence")


def run(settings: Settings, chosen: argparse.Namespace) -> int:
    if chosen.last is not None and chosen.last < chosen.first:
        raise SettingError("--to must not be before --from")
    with database_as_it_is(settings) as url:
        export = Export(
            partial(_connect, url, settings.schema), settings.schema, chosen.folder, chosen.format, chosen.first
        )
        try:
            with locked(chosen.folder), Bars() as bars:
                _export(export, _last(url, settings.schema, chosen), chosen.chunk, bars)
        except (OSError, KeyboardInterrupt) as error:
            why = (isinstance(error, OSError) and error.strerror) or str(error) or "interrupted"
            print(f"stockledger: the export stopped: {why}; {_so_far(export.manifest)}", file=sys.stderr)
            return 1
    print(msgspec.json.encode(export.manifest).decode() if chosen.json else _summary(export.manifest, chosen.folder))
    return 0


def _export(export: Export, last: int, file_entries: int, bars: Bars) -> None:
    export.resume()
    bars.begin("exporting", max(0, last - export.manifest.last), "event")
    export.run(last, file_entries, bars.moved)


def _last(url: str, schema: str, chosen: argparse.Namespace) -> int:
    with _connect(url, schema) as conn:
        last = head(conn)
    if chosen.first > last + 1:
        raise ExportError(f"the log ends with position {last}")
    if chosen.last is not None and chosen.last > last:
        raise ExportError(f"the log ends with position {last}, before {chosen.last}")
    return last if chosen.last is None else int(chosen.last)


def _connect(url: str, schema: str) -> BoundedConnection:
    conn = connect(url, schema, "stockledger export")
    conn.read_only = True
    return conn


def _so_far(manifest: Manifest) -> str:
    return f"{manifest.count} events are exported, and the same command again goes on from there"


def _summary(manifest: Manifest, folder: Path) -> str:
    if not manifest.count:
        return f"{folder / MANIFEST}: no events"
    files = f"{len(manifest.files)} file{'s' if len(manifest.files) > 1 else ''}"
    said = f"{manifest.count:,} events, positions {manifest.first:,} to {manifest.last:,}, in {files}"
    return f"{folder / MANIFEST}: {said}"


def _position(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) < 2**63:
        raise argparse.ArgumentTypeError("must be a position, from 1")
    return int(text)


def _file_entries(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_FILE_ENTRIES:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MAX_FILE_ENTRIES}")
    return int(text)
