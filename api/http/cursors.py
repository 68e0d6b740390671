"""Opaque cursors: where the next page of a list begins."""

import base64
import binascii
from typing import TypeVar

import msgspec

from ledger.errors import InvalidError
from ledger.identifiers import MAX_INTEGER, identifier

T = TypeVar("T", str, int)


def encode(after: str | int) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(after)).decode().rstrip("=")


def decode(cursor: str | None, start: T) -> T:
    """What `encode` was given, of the type of `start`, which is where a list begins; raises InvalidError."""
    if cursor is None:
        return start
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        after = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=type(start))
        if cursor != encode(after) or not _is_possible(after):
            raise ValueError
    except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError):
        raise InvalidError({"cursor": "is not one that a list answered"}) from None
    return after


def _is_possible(after: str | int) -> bool:
    """Whether a list can have answered it: an identifier, or a log position."""
    if isinstance(after, int):
        return 0 < after <= MAX_INTEGER
    return identifier(after, "cursor") == after
