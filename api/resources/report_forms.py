"""The forms in which a report goes out: JSON, CSV and Parquet, each piece by piece as its rows come.

A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` for a formula, whoever wrote it. In CSV such a text
gets an apostrophe before it; JSON and Parquet have every text as it is.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import msgspec

from ledger.store.entry_lines import time_text
from projections.reporting.report_reader import OpenReport, Reflected
from projections.reporting.reports import Column

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
# Told how many rows have gone out.
OnRows = Callable[[int], object]

_encoder = msgspec.json.Encoder(decimal_format="number")


def head(opened: OpenReport) -> dict[str, Any]:
    """What the report is and what it reflects."""
    reflected = opened.reflected
    asked = {name: value for name, value in opened.report.parameters.items() if value not in (None, "")}
    return {
        "report": opened.report.name,
        **{_ASKED.get(name, name): value for name, value in asked.items()},
        "position": reflected.position,
        "time": reflected.at and time_text(reflected.at),
        "lag": {"events": reflected.lag_events, "seconds": reflected.lag_seconds},
    }


_ASKED = {"first": "from", "last": "to"}


def ignore(_rows: int) -> None:
    """Nobody watches."""


def lag_text(reflected: Reflected) -> str:
    return f"events={reflected.lag_events}, seconds={reflected.lag_seconds}"


def head_text(opened: OpenReport) -> str:
    """The same as a line to be read."""
    told = head(opened)
    lag = told.pop("lag")
    return f"{', '.join(f'{name} {value}' for name, value in told.items())}, {lag['events']} events behind"


def json(opened: OpenReport, on_rows: OnRows = ignore) -> Iterator[bytes]:
    """One object: the head, and `items`, one for each row. Cut short it is no JSON."""
    names = [column.name for column in opened.report.columns]
    yield _encoder.encode(head(opened))[:-1] + b',"items":['
    between = b""
    for rows in opened.rows():
        yield between + _encoder.encode([dict(zip(names, row, strict=True)) for row in rows])[1:-1]
        between = b","
        on_rows(len(rows))
    yield b"]}"


def comma_separated(opened: OpenReport, on_rows: OnRows = ignore) -> Iterator[bytes]:
    """RFC 4180 in UTF-8 with the columns' names first; what is not known is empty."""
    columns = opened.report.columns
    texts = [number for number, column in enumerate(columns) if column.kind == "text"]
    page = io.StringIO()
    writer = csv.writer(page)
    writer.writerow(column.name for column in columns)
    for rows in opened.rows():
        yield _taken(page)
        for row in rows:
            cells = list(row)
            for number in texts:
                if cells[number] is not None and cells[number].startswith(_FORMULA):
                    cells[number] = f"'{cells[number]}"
            writer.writerow(cells)
        on_rows(len(rows))
    yield _taken(page)


def _taken(page: io.StringIO) -> bytes:
    text = page.getvalue()
    page.seek(0)
    page.truncate()
    return text.encode()


FORMS: Mapping[str, tuple[str, Callable[[OpenReport, OnRows], Iterator[bytes]]]] = {
    "json": ("application/json", json),
    "csv": ("text/csv; charset=utf-8", comma_separated),
}


def write_parquet(opened: OpenReport, file: IO[bytes], on_rows: OnRows) -> None:
    """Write the report as Parquet, its head as metadata `stockledger`; raises ImportError without pyarrow."""
    import pyarrow as pa
    from pyarrow import parquet

    columns = opened.report.columns
    schema = pa.schema([_field(column) for column in columns], metadata={"stockledger": _encoder.encode(head(opened))})
    with parquet.ParquetWriter(file, schema) as writer:
        for rows in opened.rows():
            arrays = [
                pa.array(values, type=field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            on_rows(len(rows))


def _field(column: Column) -> Any:
    import pyarrow as pa

    types = {
        "text": pa.string(),
        "day": pa.date32(),
        "integer": pa.int64(),
        "cents": pa.decimal128(38, 0),
        "ratio": pa.float64(),
    }
    return pa.field(column.name, types[column.kind])
