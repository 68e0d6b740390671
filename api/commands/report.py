"""`stockledger report`: the reports of /api/reports on the command line, into a file or onto standard output."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from falcon import HTTPNotFound
from tqdm import tqdm

from api.database import database_as_it_is
from api.resources.report_forms import FORMS, head_text, write_parquet
from api.resources.reports import REPORTS
from api.settings import SettingError, Settings
from ledger.errors import InvalidError, UnavailableError
from projections.reader import Reader
from projections.reporting.report_reader import OpenReport
from projections.reporting.reports import Report

_PARQUET = "parquet"
_PARAMETERS = {
    "from": "first day, UTC, such as 2026-11-01 (default: 30 days before --to)",
    "to": "last day, UTC (default: today)",
    "by": "what to sum by: day, sku or day,sku",
    "sku": "of this SKU alone",
    "as-of": "what the log said at this time, such as 2026-11-22T10:00:00Z (stock)",
    "at-position": "what the log said at this position (stock)",
    "sku-prefix": "of SKUs that begin so (stock)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("report", choices=REPORTS, help="which report")
    for name, text in _PARAMETERS.items():
        parser.add_argument(f"--{name}", dest=_member(name), metavar="VALUE", help=text)
    forms = (*FORMS, _PARQUET)
    parser.add_argument("--format", choices=forms, help="(default: what --out ends in, else csv)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to (default: standard output)")


def run(settings: Settings, chosen: argparse.Namespace) -> int:
    form, flags = _form(chosen), _Flags(chosen)
    with database_as_it_is(settings) as url, closing(Reader(url, settings.schema, max_connections=1)) as reader:
        try:
            opened = reader.reports.open(flags.report(reader))
        except UnavailableError as error:
            print(f"stockledger: {error}", file=sys.stderr)
            return 1
        try:
            with closing(opened):
                _write(opened, form, chosen.out)
        except BrokenPipeError:  # whoever reads standard output has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
    print(head_text(opened), file=sys.stderr)
    return 0


class _Flags:
    """What was asked for, under the names that the query of the endpoint has."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self._name: str = chosen.report
        asked = {name.replace("-", "_"): getattr(chosen, _member(name)) for name in _PARAMETERS}
        self._asked: dict[str, str | None] = asked
        _, parameters = REPORTS[self._name]
        for name, value in asked.items():
            if value is not None and name not in parameters:
                raise SettingError(f"{_flag(name)} has no meaning for the report {self._name}")

    def get_param(self, name: str, /) -> str | None:
        return self._asked[name]

    def report(self, reader: Reader) -> Report:
        """Raises SettingError for what cannot be meant."""
        make, _ = REPORTS[self._name]
        try:
            return make(self, reader)
        except InvalidError as error:
            bad = error.members["errors"]
            raise SettingError("; ".join(f"{_flag(name)} {must}" for name, must in bad.items())) from None
        except HTTPNotFound as error:
            raise SettingError(str(error.description)) from None


def _member(name: str) -> str:
    """Apart from the settings, which have the same name space."""
    return f"report_{name.replace('-', '_')}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _form(chosen: argparse.Namespace) -> str:
    """Raises SettingError when it cannot be written so."""
    suffix = "" if chosen.out is None else chosen.out.suffix.lower().removeprefix(".")
    form: str = chosen.format or (suffix if suffix in (*FORMS, _PARQUET) else "csv")
    if form == _PARQUET:
        if chosen.out is None:
            raise SettingError("--out must name a file for Parquet")
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise SettingError("Parquet needs pyarrow: pip install 'stockledger[parquet]'") from None
    return form


def _write(opened: OpenReport, form: str, out: Path | None) -> None:
    with _target(out) as file, tqdm(desc=opened.report.name, unit=" rows", disable=None, delay=1, leave=False) as bar:
        if form == _PARQUET:
            write_parquet(opened, file, bar.update)
            return
        for piece in FORMS[form][1](opened, bar.update):
            file.write(piece)
        if form == "json":
            file.write(b"\n")


@contextmanager
def _target(out: Path | None) -> Iterator[IO[bytes]]:
    """Where to write: a file appears under its name when it is whole, and not at all when it does not get so far."""
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = out.with_name(f"{out.name}.part")
    try:
        opened = part.open("wb")
    except OSError as error:
        raise SettingError(f"--out cannot be written: {error.strerror}") from None
    try:
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(out)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
