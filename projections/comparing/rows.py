"""Rows as lines of text, in the form that PostgreSQL's COPY has, so that equal rows are equal bytes."""

import json
import re
from collections.abc import Iterable
from datetime import date, datetime
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


def json_text(value: Any) -> str:
    """As PostgreSQL writes jsonb: members by the length of their names, then by name."""
    if isinstance(value, list):
        return f"[{', '.join([json_text(each) for each in value])}]"
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: (len(member[0]), member[0]))
        return "{" + ", ".join([f"{json.dumps(name)}: {json_text(each)}" for name, each in members]) + "}"
    return json.dumps(value, ensure_ascii=False)


def _text(value: Any) -> str:
    if value is None:
        return "\\N"
    kind = type(value)
    if kind is str:
        return _ESCAPED.sub(lambda found: _ESCAPES[found[0]], value) if _ESCAPED.search(value) else value
    if kind is datetime:
        return _time(value)
    if kind is bool:
        return "t" if value else "f"
    if kind is date:
        return str(value.isoformat())
    return str(value)


def _time(moment: datetime) -> str:
    """A UTC time without trailing zeros."""
    text = moment.isoformat(" ").removesuffix("+00:00")
    return (text.rstrip("0") if "." in text else text) + "+00"
