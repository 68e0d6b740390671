"""Problem types: the schema of each, and the answer of each status. Slugs, statuses and titles are those of `api`."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from api.access.scopes import Scope
from api.http.problems import HTTP_SLUGS, OTHERS, PROBLEMS
from api.openapi.model import Operation
from api.resources.catalogue import problems as catalogue
from api.resources.health import Details
from api.resources.items import problems as items
from api.resources.reservations import problems as reservations
from api.resources.stock import problems as stock
from api.server.responses import REFUSALS
from ledger.room import joined

TYPE = "application/problem+json"


class Problem(Struct, frozen=True):
    """RFC 9457; the type's own members are beside these."""

    type: str
    title: str
    status: int
    detail: str


# What each problem says beside its text.
_GENERAL: Mapping[str, Mapping[str, Any]] = {
    "forbidden": {"actor": str, "required_scopes": list[Scope]},
    "invalid": {"errors": dict[str, str]},
    "ahead-of-log": {"after": int, "last": int},
    "other-history": {"after": int, "digest": str},
    "precondition-failed": {"version": int | None},
    "idempotency-key-reused": {"idempotency_key": str},
    "batch-refused": {"index": int, "problem": dict[str, Any]},
    "not-ready": {"checks": dict[str, bool], "details": Details | None},
}
MEMBERS: Mapping[str, Mapping[str, Any]] = joined(
    [_GENERAL, catalogue.MEMBERS, stock.MEMBERS, items.MEMBERS, reservations.MEMBERS]
)
# What any call can meet, whatever it is; then what any write can, and what any with a body can.
ALWAYS = (
    "bad-request",
    "body-too-large",
    "busy",
    "foreign-page",
    "headers-too-large",
    "internal-error",
    "invalid",
    "request-timeout",
    "target-too-long",
)
ON_KEYS = ("unauthorized", "forbidden", "issuer-away", "rate-limited")
ON_LEDGER = ("database-away",)
ON_WRITES = ("idempotency-key-reused", "outcome-unknown")
ON_BODIES = ("not-json",)
_RETRY = ("busy", "database-away", "issuer-away", "outcome-unknown", "not-ready", "rate-limited")
_CHALLENGE = ("unauthorized", "forbidden")
# What a look at the log comes before.
_LEDGERS = {slug for status, slug, _ in PROBLEMS.values() if status in (404, 409, 412)}


class Kept(Struct, frozen=True):
    status: int
    title: str


def _all() -> dict[str, Kept]:
    kept = {slug: Kept(status, title) for status, slug, title in PROBLEMS.values()}
    kept |= {slug: Kept(status, title) for status, (slug, title, _) in REFUSALS.items()}
    kept |= {slug: Kept(status, "") for status, slug in HTTP_SLUGS.items() if slug not in kept}
    return kept | {slug: Kept(status, title) for slug, (status, title) in OTHERS.items()}


# Every problem that can be answered, by slug; an empty title is not always the same.
SLUGS: Mapping[str, Kept] = _all()


def name(slug: str) -> str:
    """`unknown-product` as the name of its component."""
    return "".join(part.capitalize() for part in slug.split("-")) + "Problem"


def schema(slug: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """`described`: the schemas of the problem's own members."""
    kept = SLUGS[slug]
    fixed = {"type": {"const": f"/problems/{slug}"}, "status": {"const": kept.status}}
    own: dict[str, Any] = {
        "allOf": [{"$ref": "#/components/schemas/Problem"}],
        "properties": fixed | dict(described),
        "required": sorted(described),
    }
    return ({"title": kept.title} if kept.title else {}) | own


def of(operation: Operation, method: str, path: str, *, needs_key: bool) -> set[str]:
    """The slugs that a call can answer with."""
    slugs = {*ALWAYS, *operation.problems, *(PROBLEMS[error][1] for error in operation.refusals)}
    if needs_key:
        slugs |= {*ON_KEYS}
    if path.startswith("/api/"):
        slugs |= {*ON_LEDGER}
    if path.startswith("/api/") and method not in ("GET", "HEAD"):
        slugs |= {*ON_WRITES, *ON_BODIES}
    if "{reservation_id}" in path:
        slugs.add("not-found")
    return slugs


def responses(slugs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Answers by status: one schema, or one of several where a status has several problems."""
    by_status: dict[int, list[str]] = {}
    for slug in sorted(slugs):
        by_status.setdefault(SLUGS[slug].status, []).append(slug)
    return {str(status): _response(found) for status, found in sorted(by_status.items())}


def _response(slugs: list[str]) -> dict[str, Any]:
    refs = [{"$ref": f"#/components/schemas/{name(slug)}"} for slug in slugs]
    headers: dict[str, Any] = {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}}
    if any(slug in _LEDGERS for slug in slugs):
        headers["Ledger-Position"] = {"$ref": "#/components/headers/Ledger-Position-Of-Refusal"}
    if any(slug in _RETRY for slug in slugs):
        headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    if any(slug in _CHALLENGE for slug in slugs):
        headers["WWW-Authenticate"] = {"$ref": "#/components/headers/WWW-Authenticate"}
    return {
        "description": " · ".join(slugs),
        "headers": headers,
        "content": {TYPE: {"schema": refs[0] if len(refs) == 1 else {"oneOf": refs}}},
    }
