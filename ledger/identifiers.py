"""What callers may use as names and amounts, and how it is checked: the same rules for HTTP, import and batch."""

import re
from typing import Annotated

from msgspec import Meta

from ledger.errors import InvalidError

# The largest integer that JSON readers everywhere keep exactly (2^53 - 1).
MAX_INTEGER = 9_007_199_254_740_991
MAX_IDENTIFIER_CHARACTERS = 100
MAX_TEXT_CHARACTERS = 10_000
MAX_TTL_SECONDS = 2_592_000

Quantity = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
Amount = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
TtlSeconds = Annotated[int, Meta(ge=1, le=MAX_TTL_SECONDS)]
# PostgreSQL's text holds no NUL.
Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARACTERS, pattern=r"\A[^\x00]*\Z")]

# What str.strip takes away, and what must not be within; written so that every dialect of patterns reads the same.
_SPACES = r"\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CONTROLS = r"/\x00-\x1f\x7f-\x9f\ufffe\uffff"
_FORBIDDEN = re.compile(f"[{_CONTROLS}]")
# What `identifier` takes, as a JSON Schema says it: the pattern bounds the length too. The check itself stays there,
# where it can say what is wrong.
NAMED = Meta(
    extra_json_schema={
        "minLength": 1,
        "pattern": rf"^[{_SPACES}]*[^{_SPACES}{_CONTROLS}]"
        rf"([^{_CONTROLS}]{{0,{MAX_IDENTIFIER_CHARACTERS - 2}}}[^{_SPACES}{_CONTROLS}])?[{_SPACES}]*$",
    }
)
Name = Annotated[str, NAMED]

_DIGITS = re.compile(r"[0-9]{1,16}", re.ASCII)


def identifier(text: str, member: str) -> str:
    """Return a SKU or serial number trimmed of white space; `member` names it in the error.

    Raises InvalidError when it is empty, longer than 100 characters, or holds `/` or a control character.
    """
    trimmed = text.strip()
    if not trimmed:
        raise InvalidError({member: "must not be empty"})
    if len(trimmed) > MAX_IDENTIFIER_CHARACTERS:
        raise InvalidError({member: f"must have at most {MAX_IDENTIFIER_CHARACTERS} characters"})
    if _FORBIDDEN.search(trimmed):
        raise InvalidError({member: "must not hold '/' or control characters"})
    return trimmed


def quantity(text: str) -> int:
    """Return a quantity written in decimal digits; raises InvalidError unless it is from 1 to 9007199254740991."""
    if _DIGITS.fullmatch(text) and 1 <= (number := int(text)) <= MAX_INTEGER:
        return number
    raise InvalidError({"quantity": f"must be an integer from 1 to {MAX_INTEGER}"})
