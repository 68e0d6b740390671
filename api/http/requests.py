"""Reading what a caller sent: body, names in the path, headers, and the query. Everything is checked here, once."""

import hashlib
import re
import time
import uuid
from contextlib import AbstractContextManager, nullcontext
from http import HTTPMethod
from typing import Any, Protocol, TypeVar

import falcon
import msgspec
from msgspec import UNSET, Struct

from ledger.caller import set_deadline
from ledger.commands import Key, Precondition
from ledger.errors import BusyError, InvalidError

MAX_BODY_BYTES = 1_048_576
# Who waits longer for a thread is turned away; who gets through has an answer, of whatever kind, in time.
MAX_QUEUED_SECONDS = 1.2
MAX_ANSWER_SECONDS = 1.9
DEFAULT_LIMIT = 100
MAX_LIMIT = 500

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)
KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_ETAG = r'"([0-9]{1,19})(?:-[0-9]{1,19})?"'
ETAGS = re.compile(rf"[ \t]*{_ETAG}[ \t]*(?:,[ \t]*{_ETAG}[ \t]*){{0,31}}", re.ASCII)
_VERSION = re.compile(_ETAG, re.ASCII)

B = TypeVar("B", bound=Struct)

_decoders: dict[type[Struct], msgspec.json.Decoder[Any]] = {}


class Query(Protocol):
    """What was asked by name: a request's query, or a command's flags."""

    def get_param(self, name: str, /) -> str | None: ...


def request_id(req: falcon.Request) -> str:
    """The caller's X-Request-Id if it is sensible (1 to 128 visible ASCII characters), else one of ours."""
    given = req.get_header("X-Request-Id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def check_method(req: falcon.Request) -> None:
    """Raises HTTPMethodNotAllowed for a method that HTTP does not know, which is as wrong as one that a path lacks."""
    if req.method not in falcon.COMBINED_METHODS:
        raise falcon.HTTPMethodNotAllowed([HTTPMethod.GET, HTTPMethod.POST, HTTPMethod.PUT, HTTPMethod.DELETE])


def check_wait(req: falcon.Request) -> None:
    """Raises BusyError for a request that has waited too long for a thread, before any work is done for it."""
    now = time.monotonic()
    arrived = req.env.setdefault("stockledger.arrived", now)
    if now - arrived > MAX_QUEUED_SECONDS:
        raise BusyError
    set_deadline(arrived + MAX_ANSWER_SECONDS)


def stand_in(req: falcon.Request) -> AbstractContextManager[None]:
    """While the request's thread does nothing but wait, have another one serve in its place."""
    pool = req.env.get("stockledger.pool")
    return nullcontext() if pool is None else pool.stand_in()


def begin_work() -> None:
    """After a wait that the caller asked for, count the time for the answer from now."""
    set_deadline(time.monotonic() + MAX_ANSWER_SECONDS)


def check_target(req: falcon.Request) -> None:
    """Raises InvalidError for a path that is not UTF-8, or in which a name holds an encoded `/`.

    The path arrives decoded, so such a name would be taken for two: `a%2Fadd%2F5` for a command.
    """
    if "%2f" in req.env.get("REQUEST_URI", "").partition("?")[0].lower():
        raise InvalidError({"path": "must not hold an encoded '/'"})
    if "\ufffd" in req.path:
        try:
            req.env["PATH_INFO"].encode("latin-1").decode()
        except UnicodeDecodeError:
            raise InvalidError({"path": "must be UTF-8"}) from None


def raw_body(req: falcon.Request) -> bytes:
    """The body's bytes, read once; raises HTTPContentTooLarge, HTTPUnsupportedMediaType."""
    context = req.context
    if (body := context.get("body")) is None:
        # The server refuses larger bodies before they get here; this holds under any other server too.
        body = context["body"] = req.bounded_stream.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise falcon.HTTPContentTooLarge(description=f"A body has at most {MAX_BODY_BYTES} bytes.")
        media_type = (req.content_type or "application/json").partition(";")[0].strip().lower()
        if body and media_type != "application/json":
            raise falcon.HTTPUnsupportedMediaType(description="A body must be application/json.")
    return bytes(body)


def body(req: falcon.Request, shape: type[B]) -> B:
    """Decode the body, which may be absent where every member has a default.

    Raises HTTPBadRequest when it is not JSON in UTF-8, InvalidError naming each bad member.
    """
    raw = raw_body(req) or b"{}"
    decoder = _decoders.get(shape) or _decoders.setdefault(shape, msgspec.json.Decoder(shape))
    try:
        decoded: B = decoder.decode(raw)
        return decoded
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # The decoder stops at the first bad member: what follows may not even be JSON.
        given = _json(raw)
        raise InvalidError(_bad_members(given, shape) or {_member(error): _must(error)}) from None


def _json(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise falcon.HTTPBadRequest(title="The body is not JSON", description=_sentence(str(error))) from None


def _bad_members(given: Any, shape: type[Struct]) -> dict[str, str]:
    """What is wrong with each member: the decoder itself stops at the first."""
    if not isinstance(given, dict):
        return {"body": "must be a JSON object"}
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    bad = {}
    for name, value in given.items():
        if name not in fields:
            bad[name] = "is not known here"
            continue
        try:
            msgspec.convert(value, fields[name].type)
        except msgspec.ValidationError as error:
            bad[name] = _must(error)
    for name, field in fields.items():
        if name not in given and field.required:
            bad[name] = "is missing"
    return bad


def _member(error: Exception) -> str:
    """The member that the decoder stopped at: one that is there twice, so that only the first of them is bad."""
    return str(error).rpartition("`$.")[2].rstrip("`") if "`$." in str(error) else "body"


def _must(error: Exception) -> str:
    text = str(error).partition(" - at `$")[0]
    return "must not hold NUL" if "regex" in text else f"is invalid: {text}"


def _sentence(text: str) -> str:
    return text[:200].rstrip(".") + "."


def key(req: falcon.Request) -> Key | None:
    """The Idempotency-Key with the hash of method, target, precondition and body; raises InvalidError."""
    given = req.get_header("Idempotency-Key")
    if given is None:
        return None
    if not KEY.fullmatch(given):
        raise InvalidError({"Idempotency-Key": "must have 1 to 255 visible ASCII characters"})
    conditions = (req.get_header("If-Match") or "", req.get_header("If-None-Match") or "")
    parts = (req.method, req.path, req.query_string, *conditions, raw_body(req))
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return Key(given, digest.digest())


def precondition(req: falcon.Request) -> Precondition | None:
    """`If-Match` with versions or `*`, or `If-None-Match: *` (RFC 9110, 13.1); raises InvalidError for others."""
    match, none_match = req.get_header("If-Match"), req.get_header("If-None-Match")
    if match is not None and none_match is not None:
        raise InvalidError({"If-Match": "cannot be combined with If-None-Match"})
    if none_match is not None:
        if none_match.strip() != "*":
            raise InvalidError({"If-None-Match": "must be * on a write"})
        return Precondition(frozenset())
    if match is None:
        return None
    if match.strip() == "*":
        return Precondition(None)
    if not ETAGS.fullmatch(match):
        raise InvalidError({"If-Match": 'must be *, or versions as ETag gives them, such as "7"'})
    return Precondition(frozenset(int(version) for version in _VERSION.findall(match)))


def is_known(req: falcon.Request, etag: str) -> bool:
    """Whether the caller has that version already, as a read's If-None-Match says (RFC 9110, 13.1.2)."""
    known = req.get_header("If-None-Match")
    if known is None:
        return False
    names = {name.strip().removeprefix("W/") for name in known.split(",")}
    return etag in names or "*" in names


def limit(req: falcon.Request) -> int:
    """`?limit=` from 1 to 500, 100 if absent; raises InvalidError."""
    text = req.get_param("limit")
    if text is None:
        return DEFAULT_LIMIT
    if not re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidError({"limit": f"must be from 1 to {MAX_LIMIT}"})
    return int(text)


def known_parameters(req: falcon.Request, *names: str) -> None:
    """Raises InvalidError for a query parameter that is not among `names`, rather than ignore it."""
    unknown = sorted(set(req.params) - set(names))
    if unknown:
        raise InvalidError(dict.fromkeys(unknown, "is not known here"))


def position(req: Query, name: str) -> int:
    """A log position given as `?name=`, 0 if absent; raises InvalidError."""
    text = req.get_param(name)
    if text is None:
        return 0
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise InvalidError({name: "must be a log position"})
    return int(text)


def given(members: Struct, *names: str) -> dict[str, Any]:
    """The named members that the caller gave."""
    return {name: value for name in names if (value := getattr(members, name)) is not UNSET}
