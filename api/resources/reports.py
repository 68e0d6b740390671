"""/api/reports: stock, movements, reservations, shortages and valuation, as JSON or CSV."""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import falcon

from api.http import point_in_time, requests
from api.http.requests import Query
from api.http.service import Service
from api.resources.report_forms import FORMS, ignore, lag_text
from ledger.errors import InvalidError
from ledger.identifiers import identifier
from ledger.store.entry_lines import time_text
from projections.reader import Reader
from projections.reporting import reports
from projections.reporting.report_reader import OpenReport
from projections.reporting.reports import Days, Report

DEFAULT_DAYS = 31
MAX_DAYS = 3_660
MAX_PREFIX_CHARACTERS = 100
# What the rows of a report can be summed by; the first is what is meant where nothing is said.
GROUPINGS: dict[str, Sequence[tuple[str, ...]]] = {
    "movements": [("day", "sku"), ("day",), ("sku",)],
    "shortages": [("day", "sku"), ("day",), ("sku",)],
    "valuation": [("day",), ("day", "sku")],
}


def stock(query: Query, reader: Reader) -> Report:
    """Raises HTTPNotFound for a time before the first event."""
    prefix = query.get_param("sku_prefix") or ""
    if len(prefix) > MAX_PREFIX_CHARACTERS or "\0" in prefix:
        raise InvalidError({"sku_prefix": f"must have at most {MAX_PREFIX_CHARACTERS} characters and no NUL"})
    position = point_in_time.asked(query, reader)
    if position == 0:
        raise falcon.HTTPNotFound(description="There was nothing yet: the first event was recorded later.")
    return reports.stock(prefix, position)


def movements(query: Query, _reader: Reader) -> Report:
    return reports.movements(*_daily(query, GROUPINGS["movements"]))


def shortages(query: Query, _reader: Reader) -> Report:
    return reports.shortages(*_daily(query, GROUPINGS["shortages"]))


def valuation(query: Query, _reader: Reader) -> Report:
    return reports.valuation(*_daily(query, GROUPINGS["valuation"]))


def reservations(query: Query, _reader: Reader) -> Report:
    bad: dict[str, str] = {}
    days = _days(query, bad)
    if bad:
        raise InvalidError(bad)
    return reports.reservations(days)


# Each report: how it is made of what was asked, and what can be asked.
REPORTS: dict[str, tuple[Callable[[Query, Reader], Report], tuple[str, ...]]] = {
    "stock": (stock, ("sku_prefix", *point_in_time.PARAMETERS)),
    "movements": (movements, ("from", "to", "by", "sku")),
    "reservations": (reservations, ("from", "to")),
    "shortages": (shortages, ("from", "to", "by", "sku")),
    "valuation": (valuation, ("from", "to", "by", "sku")),
}


def _daily(query: Query, groupings: Sequence[tuple[str, ...]]) -> tuple[Days, tuple[str, ...], str | None]:
    """Days, grouping (the first of `groupings` by default) and SKU; raises InvalidError naming all that is bad."""
    bad: dict[str, str] = {}
    days = _days(query, bad)
    by, sku = query.get_param("by"), query.get_param("sku")
    grouping = groupings[0] if by is None else tuple(sorted(part.strip() for part in by.split(",")))
    if grouping not in groupings:
        bad["by"] = f"must be {' or '.join(','.join(names) for names in groupings)}"
    if sku is not None:
        try:
            sku = identifier(sku, "sku")
        except InvalidError as error:
            bad |= error.members["errors"]
    if bad:
        raise InvalidError(bad)
    return days, grouping, sku


def _days(query: Query, bad: dict[str, str]) -> Days:
    """`from` and `to`, both included; by default the last 31 days until today, UTC."""
    today = datetime.now(UTC).date()
    last = _day(query, "to", bad) or today
    first = _day(query, "from", bad) or max(
        date.min, last - timedelta(days=min(DEFAULT_DAYS - 1, last.toordinal() - 1))
    )
    if not bad and first > last:
        bad["from"] = f"must not be after to, {last}"
    if not bad and (last - first).days >= MAX_DAYS:
        bad["from"] = f"must be less than {MAX_DAYS} days before to, {last}"
    return Days(first, last)


def _day(query: Query, name: str, bad: dict[str, str]) -> date | None:
    text = query.get_param(name)
    if text is None:
        return None
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            return date.fromisoformat(text)
    except ValueError:
        pass
    bad[name] = "must be a day (UTC) such as 2026-11-22"
    return None


class Body:
    """The pieces of a report on their way out; whoever sends them closes it, also when nobody takes them any more."""

    def __init__(self, opened: OpenReport, pieces: Iterator[bytes]) -> None:
        self._opened = opened
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        self._opened.close()


class ReportOf:
    """The report of that name."""

    def __init__(self, name: str, service: Service) -> None:
        self._service = service
        self._make, self._parameters = REPORTS[name]

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        requests.known_parameters(req, "format", *self._parameters)
        media_type, form = FORMS[_form(req)]
        report = self._make(req, self._service.reader)
        opened = self._service.reader.reports.open(report)
        reflected = opened.reflected
        resp.content_type = media_type
        resp.set_header("Ledger-Position", str(reflected.position))
        resp.set_header("Ledger-Lag", lag_text(reflected))
        if reflected.at is not None:
            resp.set_header("Ledger-Time", time_text(reflected.at))
        if report.position is not None:
            point_in_time.keep(resp)
        resp.stream = Body(opened, form(opened, ignore))


def _form(req: falcon.Request) -> str:
    """What `?format=` says, else the Accept header; raises InvalidError, HTTPNotAcceptable."""
    given = req.get_param("format")
    if given is not None:
        if given not in FORMS:
            raise InvalidError({"format": f"must be {' or '.join(FORMS)}"})
        return given
    plain = {media_type.partition(";")[0]: name for name, (media_type, _) in FORMS.items()}
    preferred = req.client_prefers(plain)
    if preferred is None:
        raise falcon.HTTPNotAcceptable(description=f"A report is {' or '.join(plain)}.")
    return plain[preferred]
