"""Every error as `application/problem+json` (RFC 9457): one table from error class to status and slug."""

import logging
from typing import Any

import falcon
import msgspec

from api.access.scopes import (
    AccessError,
    ForbiddenError,
    ForeignPageError,
    IssuerAwayError,
    RateLimitedError,
    UnauthorizedError,
)
from api.resources.catalogue import problems as catalogue
from api.resources.items import problems as items
from api.resources.reservations import problems as reservations
from api.resources.reservations.schemas import ShortageAnswer
from api.resources.stock import problems as stock
from ledger.errors import (
    AbandonedError,
    AheadOfLogError,
    BusyError,
    DatabaseAwayError,
    InvalidError,
    KeyReusedError,
    LedgerError,
    OtherHistoryError,
    OutcomeUnknownError,
    PreconditionFailedError,
    UnavailableError,
)
from ledger.room import joined
from ledger.stock.errors import InsufficientStockError

logger = logging.getLogger(__name__)

# What belongs to no business.
_GENERAL: dict[type[LedgerError], tuple[int, str, str]] = {
    UnauthorizedError: (401, "unauthorized", "A valid key is needed"),
    ForbiddenError: (403, "forbidden", "The key does not allow this"),
    ForeignPageError: (403, "foreign-page", "Pages of that site may not call"),
    RateLimitedError: (429, "rate-limited", "Too many requests"),
    InvalidError: (422, "invalid", "The request is well-formed but invalid"),
    AheadOfLogError: (409, "ahead-of-log", "The position is beyond the log"),
    OtherHistoryError: (409, "other-history", "The log has another history there"),
    AbandonedError: (409, "abandoned", "Another command of the batch was refused"),
    PreconditionFailedError: (412, "precondition-failed", "The precondition does not hold"),
    KeyReusedError: (422, "idempotency-key-reused", "The key was used with another request"),
    IssuerAwayError: (503, "issuer-away", "Tokens cannot be checked"),
    BusyError: (503, "busy", "Overloaded"),
    DatabaseAwayError: (503, "database-away", "The database cannot be reached"),
    OutcomeUnknownError: (503, "outcome-unknown", "The outcome is not known yet"),
}
PROBLEMS: dict[type[LedgerError], tuple[int, str, str]] = joined(
    [_GENERAL, catalogue.PROBLEMS, stock.PROBLEMS, items.PROBLEMS, reservations.PROBLEMS]
)

HTTP_SLUGS = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    413: "body-too-large",
    415: "not-json",
}

# What has no class of error: slug to status and title.
OTHERS = {
    "internal-error": (500, "Internal error"),
    "batch-refused": (409, "The batch is refused"),
    "not-ready": (503, "Not ready"),
}


def problem_of(error: LedgerError) -> tuple[int, dict[str, Any]]:
    """Status and body of a refusal, with its data beside the text; anything not in the table is a defect."""
    if type(error) not in PROBLEMS:
        logger.error("a command failed", exc_info=error)
        return _INTERNAL["status"], _INTERNAL
    status, slug, title = PROBLEMS[type(error)]
    members = dict(error.members)
    if isinstance(error, InsufficientStockError):
        members["shortages"] = [ShortageAnswer.of(s, error.next_release_at) for s in error.shortages]
    return status, _problem(status, slug, title, str(error)) | members


def ledger_problem(_req: falcon.Request, resp: falcon.Response, error: LedgerError, _params: Any) -> None:
    status, body = problem_of(error)
    if isinstance(error, UnavailableError):
        resp.set_header("Retry-After", str(error.retry_after_seconds))
    if isinstance(error, AccessError):
        resp.set_headers(error.headers)
    if error.position is not None:
        resp.set_header("Ledger-Position", str(error.position))
    write(resp, status, body)


def http_problem(_req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _params: Any) -> None:
    """What the framework refuses: no such path, a wrong method (with `Allow`), a body that cannot be read."""
    status = error.status_code
    slug = HTTP_SLUGS.get(status, f"http-{status}")
    if error.headers:
        resp.set_headers(error.headers)
    phrase = falcon.code_to_http_status(status)
    title = error.title if error.title and error.title != phrase else phrase.partition(" ")[2]
    write(resp, status, _problem(status, slug, title, error.description or f"{title}."))


def unexpected_problem(req: falcon.Request, resp: falcon.Response, error: Exception, _params: Any) -> None:
    """A defect of ours: logged with its stack (telemetry.requests), told without it."""
    req.context.error = error
    write(resp, 500, _INTERNAL)


def write(resp: falcon.Response, status: int, body: dict[str, Any]) -> None:
    resp.status = status
    resp.content_type = "application/problem+json"
    resp.context.problem = body["type"].removeprefix("/problems/")
    resp.data = msgspec.json.encode(body)


def _problem(status: int, slug: str, title: str, detail: str) -> dict[str, Any]:
    return {"type": f"/problems/{slug}", "title": title, "status": status, "detail": detail}


def other(slug: str, detail: str) -> tuple[int, dict[str, Any]]:
    """Status and body of one of OTHERS."""
    status, title = OTHERS[slug]
    return status, _problem(status, slug, title, detail)


_, _INTERNAL = other("internal-error", "The service failed; this has been logged.")


def batch_problem(index: int, error: LedgerError) -> tuple[int, dict[str, Any]]:
    """An all-or-nothing batch that is refused because its command number `index` is."""
    status, inner = problem_of(error)
    if status >= 500:
        return status, inner
    detail = f"Command {index} was refused, so none was carried out: {error}"
    status, outer = other("batch-refused", detail)
    return status, outer | {"index": index, "problem": inner}
