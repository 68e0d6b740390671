"""Parameters of the calls, once each: in the path, in the query, in headers."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from api.http import point_in_time, requests
from api.openapi.model import Parameter, Shape
from api.openapi.page import FILES
from api.resources import events
from api.resources.history import ORDERS
from api.resources.report_forms import FORMS
from api.resources.reports import MAX_DAYS, MAX_PREFIX_CHARACTERS
from ledger.events import EVENTS
from ledger.identifiers import Name, Quantity
from ledger.reservations.reservations import State

Time = Annotated[
    datetime, Meta(extra_json_schema={"pattern": rf"^{point_in_time.TIME.pattern}$".replace(r"\d", "[0-9]")})
]
Position = Annotated[int, Meta(ge=0, le=10**18 - 1)]
RESERVATION_ID = "3f2b6f0a-6f0e-4c8e-9d53-0f6a3f1d2c4b"


def _path(name: str, shape: Shape, text: str, example: object) -> Parameter:
    return Parameter(name=name, where="path", shape=shape, text=text, example=example, required=True)


def _query(name: str, shape: Shape, text: str, example: object = None) -> Parameter:
    return Parameter(name=name, where="query", shape=shape, text=text, example=example)


def _header(name: str, shape: Shape, text: str, example: object = None) -> Parameter:
    return Parameter(name=name, where="header", shape=shape, text=text, example=example)


PATH = {
    "sku": _path("sku", Name, "A product's SKU.", "PENCIL"),
    "sn": _path("sn", Name, "A serial number, unique within its SKU.", "VIN1"),
    "quantity": _path("quantity", Quantity, "How many units.", 3),
    "reservation_id": _path("reservation_id", UUID, "A reservation's id.", RESERVATION_ID),
}

FILE = _path("file", Literal[tuple(FILES)], "Its name.", next(iter(FILES)))
LIMIT = _query(
    "limit",
    Annotated[int, Meta(ge=1, le=requests.MAX_LIMIT)],
    f"How many entries a page has at most; {requests.DEFAULT_LIMIT} if it is left out.",
    requests.DEFAULT_LIMIT,
)
CURSOR = _query("cursor", str, "The `next_cursor` of the page before, as it was answered.")
PAGE = (LIMIT, CURSOR)
STATE = _query("state", State, "Only reservations in this state.")
OWNER = _query("owner", Annotated[str, Meta(pattern=r"\A[^\x00]*\Z")], "Only reservations of this owner.", "ann")
OF_SKU = _query("sku", Name, "Only what has to do with this SKU.", "PENCIL")
AFTER = _query("after", Position, "Only what lies after this log position; 0 if it is left out.", 0)
DIGEST = _query(
    "digest",
    Annotated[str, Meta(pattern=rf"\A{events.DIGEST.pattern}\Z")],
    "The `next_digest` that came with that `after`: refused with 409 if the log has another history there.",
)
WAIT = _query(
    "wait_seconds",
    Annotated[int, Meta(ge=0, le=events.MAX_WAIT_SECONDS)],
    "How long to wait for an entry where there is none yet; 0 if it is left out.",
    0,
)
AS_OF = _query(point_in_time.PARAMETERS[0], Time, "The state at that time, which must have passed.")
AT_POSITION = _query(
    point_in_time.PARAMETERS[1],
    Position,
    "The state at that log position, which must be there. Not together with as_of.",
    1,
)
PAST = (AS_OF, AT_POSITION)
HISTORY = (
    *PAGE,
    _query("order", Literal[ORDERS], "Which comes first, the oldest or the newest entry.", "asc"),
    _query("from", Time, "Only entries from that time on."),
    _query("to", Time, "Only entries before that time."),
    _query(
        "event",
        {"type": "string", "pattern": rf"^({'|'.join(sorted({n.partition('.')[0] for n in EVENTS}))})(\.v1)?$"},
        "Only events of that name.",
        "StockAdded",
    ),
)
FORMAT = _query("format", Literal[tuple(FORMS)], "Takes precedence over the Accept header.", "json")
DAYS = (
    _query(
        "from", date, f"The first day (UTC); 30 days before `to` if left out. At most {MAX_DAYS} days.", "2026-11-01"
    ),
    _query("to", date, "The last day (UTC); today if left out.", "2026-11-22"),
)
SKU_PREFIX = _query(
    "sku_prefix",
    Annotated[str, Meta(max_length=MAX_PREFIX_CHARACTERS, pattern=r"\A[^\x00]*\Z")],
    "Only SKUs that begin so.",
    "PEN",
)


def by(groupings: Iterable[Sequence[str]]) -> Parameter:
    """What a report's rows are summed by."""
    names = [",".join(names) for names in groupings]
    return _query("by", {"type": "string", "enum": names}, f"What the rows are summed by; {names[0]} if left out.")


REQUEST_ID = _header(
    "X-Request-Id",
    str,
    "Comes back with the answer and is kept with the events, if it is 1 to 128 visible ASCII characters.",
)
KEY = _header(
    "Idempotency-Key",
    Annotated[str, Meta(pattern=rf"\A{requests.KEY.pattern}\Z")],
    "Makes the call safe to repeat: the same key and request get the first answer again.",
)
IF_MATCH = _header(
    "If-Match",
    Annotated[str, Meta(pattern=rf"\A(\*|{requests.ETAGS.pattern})\Z")],
    "Only if it has one of these versions, or exists (`*`). Not together with If-None-Match.",
    '"7"',
)
IF_ABSENT = _header("If-None-Match", Literal["*"], "`*`: only if it does not exist yet.")
IF_NONE_MATCH = _header("If-None-Match", str, "Answer 304 if it still has one of these versions.", '"7"')

WRITE = (KEY,)
CONDITIONAL = (KEY, IF_MATCH, IF_ABSENT)
