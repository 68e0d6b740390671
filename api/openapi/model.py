"""What the document says of one call: an Operation, its Parameters, and what it answers. Shapes only, no content."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from ledger.errors import LedgerError

JSON = "application/json"

# A type that msgspec can describe (a Struct, an annotated built-in), or a JSON Schema as it stands.
Shape = Any


class Parameter(Struct, frozen=True, kw_only=True):
    name: str
    where: Literal["path", "query", "header"]
    shape: Shape
    text: str
    example: Any = None
    required: bool = False


class Answer(Struct, frozen=True, kw_only=True):
    """A success: the shape of its body by media type, and its headers by the names that `headers` knows them by."""

    text: str
    content: Mapping[str, Shape] = {}
    headers: Sequence[str] = ()
    example: Any = None


class Operation(Struct, frozen=True, kw_only=True):
    """`refusals` and `problems` (by slug) are what this call can meet beside what any can; `links` name, by operation
    id, the calls that take a member of this answer as a parameter: `link_by`, parameter and member."""

    id: str
    tag: str
    summary: str
    text: str = ""
    parameters: Sequence[Parameter] = ()
    body: Shape = None
    body_example: Any = None
    needs_body: bool = False
    answers: Mapping[int, Answer]
    refusals: Sequence[type[LedgerError]] = ()
    problems: Sequence[str] = ()
    links: Sequence[str] = ()
    link_by: tuple[str, str] = ("", "")


Operations = dict[tuple[str, str], Operation]
