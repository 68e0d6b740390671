"""Rows as lines of text, in the form that PostgreSQL's COPY has, so that equal rows are equal bytes."""

import json
import re
from collections.abc import Iterable
from datetime import date, datetime
from functools import lru_cache
from typing import Any

NULL = b"\\N"
_ESCAPED = re.compile(r"[\\\b\f\n\r\t\v]")
_ESCAPES = {"\\": r"\\", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}
_NAMED = {text: character for character, text in _ESCAPES.items()}
_ESCAPE = re.compile(r"\\[\\bfnrtv]")


def to_row(values: Iterable[Any]) -> bytes:
    """Columns with tabs between, without the line's end."""
    return "\t".join([_text(value) for value in values]).encode()


def columns_of(row: bytes) -> list[str]:
    """What to show of each column: NULL is `null`."""
    return [
        "null" if column == "\\N" else _ESCAPE.sub(lambda found: _NAMED[found[0]], column)
        for column in row.decode(errors="backslashreplace").split("\t")
    ]


def _text(value: Any) -> str:
    if value is None:
        return "\\N"
    kind = type(value)
    if kind is str:
        return text(value)
    if kind is datetime:
        return time_text(value)
    if kind is bool:
        return "t" if value else "f"
    return str(value.isoformat()) if kind is date else str(value)


def text(value: str | None) -> str:
    """A column of text."""
    if value is None:
        return "\\N"
    return _ESCAPED.sub(lambda found: _ESCAPES[found[0]], value) if _ESCAPED.search(value) else value


@lru_cache(maxsize=10_000)  # all facts of a transaction have one time
def time_text(moment: datetime | None) -> str:
    """A column of a UTC time: without trailing zeros."""
    if moment is None:
        return "\\N"
    shown = moment.isoformat(" ").removesuffix("+00:00")
    return (shown.rstrip("0") if "." in shown else shown) + "+00"


@lru_cache(maxsize=10_000)
def json_string(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
