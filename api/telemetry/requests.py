"""What is counted, logged and traced of each request, once it is answered. One line each at most."""

import logging
import time
from typing import Any

import falcon
from falcon.util import http_status_to_code

from api.telemetry import catalogue
from api.telemetry.process import Labels, Telemetry
from api.telemetry.traces import Spans
from ledger.engine.counters import SECONDS, Histogram, LabelledCounter, added

# Answers that are nobody's fault, as falcon has them: in line or number. Of these nothing is said by default.
QUIET = frozenset({"200 OK", 200, 201, "304 Not Modified"})
# No template of ours: the path is the caller's own, and callers can make up any number of them.
UNMATCHED, OTHER = "unmatched", "other"
# Followers of the log wait there for as long as they like.
SLOW_BY_DESIGN = frozenset({"/api/events"})
# Lines about 503 in one second: under overload they would only add to it. The metrics count them all.
MAX_UNAVAILABLE_LINES = 10

logger = logging.getLogger(__name__)


class Requests:
    """Belongs to one process. `log_all` logs every request, else only failures and those over `slow_seconds`."""

    def __init__(
        self, telemetry: Telemetry, *, slow_seconds: float = 1.0, log_all: bool = False, spans: Spans | None = None
    ) -> None:
        self._slow_seconds = slow_seconds
        self._log_all = log_all
        self._spans = spans
        # By method, template (None when there is none) and status as falcon has it.
        self._seconds: Histogram[tuple[str, str | None, Any]] = Histogram(SECONDS)
        self._problems: LabelledCounter[Labels] = LabelledCounter()
        self._lines: LabelledCounter[Labels] = LabelledCounter()
        self._second = self._lines_in_second = 0
        telemetry.counts(catalogue.REQUESTS, self._by_status)
        telemetry.counts(catalogue.REQUEST_SECONDS, self._by_route)
        telemetry.counts(catalogue.PROBLEMS, self._problems.totals)
        telemetry.counts(catalogue.LOG_LINES_DROPPED, self._lines.totals)

    def answered(self, req: falcon.Request, resp: falcon.Response) -> None:
        """A request has its answer, from within the application."""
        now = time.monotonic()
        seconds = now - req.env.get("stockledger.arrived", now)
        template, status = req.uri_template, resp.status
        self._seconds.observe((req.method if template else OTHER, template, status), seconds)
        if status not in QUIET or seconds > self._slow_seconds or self._log_all:
            self._look_closer(req, resp, seconds)
        if self._spans is not None:
            self._spans.answered(req, seconds, self._facts(req, resp, seconds))

    def refused(self, method: str, status: int, slug: str, request_id: str) -> None:
        """A request was refused by the server, before or after the application: what is known of it."""
        self._seconds.observe((OTHER, None, status), 0.0)
        self._problems.count((slug,))
        if self._log_all or status >= 500:
            facts = {"request_id": request_id, "method": _method(method), "status": status, "problem": slug}
            logger.log(_level(status), "%s %s %d", facts["method"], UNMATCHED, status, extra={"fields": facts})

    def _look_closer(self, req: falcon.Request, resp: falcon.Response, seconds: float) -> None:
        status = http_status_to_code(resp.status)
        if (slug := resp.context.get("problem")) is not None:
            self._problems.count((slug,))
        route = req.uri_template or UNMATCHED
        slow = seconds > self._slow_seconds and route not in SLOW_BY_DESIGN
        if not (self._log_all or slow or status >= 500) or (status == 503 and not self._may_say_more()):
            return
        logger.log(
            _level(status, slow),
            "%s %s %d",
            _method(req.method),
            route,
            status,
            exc_info=req.context.get("error"),
            extra={"fields": self._facts(req, resp, seconds)},
        )

    def _facts(self, req: falcon.Request, resp: falcon.Response, seconds: float) -> dict[str, Any]:
        """What may be told: never a path, a query, a header or a body of the caller's, but for the request's id."""
        context = req.context
        command = context.get("command")
        position = resp.get_header("Ledger-Position")
        facts = {
            "request_id": context.get("request_id"),
            "actor": None if (caller := context.get("caller")) is None else caller.actor,
            "method": _method(req.method),
            "route": req.uri_template or UNMATCHED,
            "status": http_status_to_code(resp.status),
            "problem": resp.context.get("problem"),
            "duration_ms": round(seconds * 1000, 3),
            "command": None if command is None else type(command).__name__,
            "position": None if position is None else int(position),
        }
        return {name: fact for name, fact in facts.items() if fact is not None}

    def _may_say_more(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines_in_second = second, 0
        self._lines_in_second += 1
        if self._lines_in_second > MAX_UNAVAILABLE_LINES:
            self._lines.count(())
            return False
        return True

    def _by_status(self) -> dict[Labels, list[float]]:
        found: dict[Labels, list[float]] = {}
        for (method, template, status), numbers in self._seconds.totals().items():
            labels = (method, template or UNMATCHED, str(http_status_to_code(status)))
            found[labels] = added(found.get(labels), [sum(numbers[:-1])])
        return found

    def _by_route(self) -> dict[Labels, list[float]]:
        found: dict[Labels, list[float]] = {}
        for (method, template, _), numbers in self._seconds.totals().items():
            labels = (method, template or UNMATCHED)
            found[labels] = added(found.get(labels), numbers)
        return found


def _method(method: str) -> str:
    """One that HTTP knows: others are the caller's own text."""
    return method if method in falcon.COMBINED_METHODS else OTHER


def _level(status: int, slow: bool = False) -> int:
    if status >= 500 and status != 503:
        return logging.ERROR
    return logging.WARNING if status == 503 or slow else logging.INFO
