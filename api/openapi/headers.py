"""Headers of answers, once each."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from api.openapi.model import Shape

HEADERS: dict[str, tuple[Shape, str]] = {
    "X-Request-Id": (Annotated[str, Meta(pattern=r"\A[\x21-\x7e]{1,128}\Z")], "The caller's, if sensible, else ours."),
    "Ledger-Position": (Annotated[int, Meta(ge=0)], "The log position that the answer reflects."),
    "Ledger-Position-Of-Refusal": (Annotated[int, Meta(ge=0)], "The log position that it reflects, if one was read."),
    "Next-Digest": (
        Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")],
        "Of NDJSON, the digest of the chain at the last entry that the answer holds.",
    ),
    "Ledger-Lag": (str, "How far the answer is behind the log."),
    "Ledger-Time": (datetime, "When the entry at that position was recorded."),
    "ETag": (Annotated[str, Meta(pattern=r'\A"[^"]+"\Z')], "The version, for If-Match and If-None-Match."),
    "Idempotent-Replayed": (Literal["true"], "This is the first answer to that Idempotency-Key again."),
    "Location": (str, "Where what was made is found."),
    "Cache-Control": (str, "The past never changes, so it can be kept."),
    "WWW-Authenticate": (str, "How to show a key (RFC 6750)."),
    "Retry-After": (Annotated[int, Meta(ge=1)], "Seconds until it is worth trying again."),
}
# Those that an answer that has them always has.
REQUIRED = {"X-Request-Id", "Ledger-Position", "ETag", "Location"}
