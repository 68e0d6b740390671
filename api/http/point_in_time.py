"""`?as_of=` and `?at_position=`: which moment of the log a question is about; and times in a query."""

import re
from datetime import UTC, datetime

import falcon

from api.http import requests
from api.http.requests import Query
from ledger.errors import InvalidError
from ledger.store import point_in_time
from ledger.store.entry_lines import time_text
from projections.reader import Reader

PARAMETERS = ("as_of", "at_position")
TIME_FORM = "a time as RFC 3339 writes it, such as 2026-11-22T10:00:00.123456Z"

# A `+` that was not encoded arrives as a space.
TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?)(Z|[ +-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)


def moment(req: Query, name: str) -> datetime | None:
    """A time given as `?name=`; raises InvalidError unless it is RFC 3339 with a zone and at most microseconds."""
    text = req.get_param(name)
    if text is None:
        return None
    if (found := time_of(text)) is None:
        raise InvalidError({name: f"must be {TIME_FORM}"})
    return found


def time_of(text: str) -> datetime | None:
    """A time in UTC, None if the text is not one in TIME_FORM."""
    match = TIME.fullmatch(text)
    if match is None:
        return None
    try:
        return datetime.fromisoformat((match[1] + match[2].replace(" ", "+")).upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def asked(req: Query, reader: Reader) -> int | None:
    """The position that the caller asks about, None for now; raises InvalidError for one that is still to come."""
    when, given = moment(req, "as_of"), req.get_param("at_position")
    if when is not None and given is not None:
        raise InvalidError({"at_position": "cannot be combined with as_of"})
    if when is not None:
        position = reader.read(lambda conn: point_in_time.position_at(conn, reader.schema, when))
        if position is None:
            raise InvalidError({"as_of": "is in the future"})
        return position
    if given is None:
        return None
    position = requests.position(req, "at_position")
    head = reader.read(point_in_time.head)
    if position > head:
        raise InvalidError({"at_position": f"is in the future: the log ends at {head}"})
    return position


def keep(resp: falcon.Response) -> None:
    """Let the caller keep the answer: the past never changes. Shared caches may not: they do not ask who may read."""
    resp.set_header("Cache-Control", "private, max-age=86400, immutable")


def range_of(req: falcon.Request, reader: Reader) -> tuple[int, int, int]:
    """The log's head, and the positions (after, up to) that `?from=` (included) and `?to=` (not included) mean.

    Raises InvalidError.
    """
    first, end = moment(req, "from"), moment(req, "to")
    if first is not None and end is not None and first > end:
        raise InvalidError({"from": f"must not be after to, {time_text(end)}"})
    position = upto = reader.read(point_in_time.head)
    after = 0 if first is None else reader.read(lambda conn: point_in_time.position_before(conn, first))
    if end is not None:
        upto = min(upto, reader.read(lambda conn: point_in_time.position_before(conn, end)))
    return position, after, upto
