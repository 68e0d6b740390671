"""HTTP requests as waitress parses them, made safe and cheap: strict about where a message ends, with limits.

What never lives here: answers (responses.py), connections (channel.py). Each override tells what waitress does.
"""

import re
import time
from functools import lru_cache

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.rfc7230 import HEADER_FIELD_RE
from waitress.utilities import BadRequest, RequestHeaderFieldsTooLarge

from api.server.chunks import Chunks

MAX_BODY_BYTES = 1 << 20
MAX_HEADER_BYTES = 1 << 16
MAX_HEADER_FIELDS = 100
MAX_FIRST_LINE_BYTES = 8_192

# waitress takes control characters in the target, and every version.
_FIRST_LINE = re.compile(rb"[^\s]+ [\x21-\xff]+ HTTP/1\.[01]")
# The fields that waitress acts on: they decide where a message ends, so nobody but waitress reads them.
_FRAMING = frozenset({"CONNECTION", "CONTENT_LENGTH", "EXPECT", "TRANSFER_ENCODING"})
_MAX_CACHED_LINE_BYTES = 300
_FIELD: re.Pattern[bytes] = HEADER_FIELD_RE  # type: ignore[assignment]  # the stub says str


def _plain_field(line: bytes) -> tuple[str, str] | None:
    """Name and value as waitress keeps them, for a valid field that it does not act on; None leaves it to waitress."""
    match = _FIELD.fullmatch(line)
    if match is None or b"_" in match["name"]:
        return None
    name = match["name"].upper().replace(b"-", b"_").decode("latin-1")
    return None if name in _FRAMING else (name, match["value"].strip(b" \t").decode("latin-1"))


_cached_plain_field = lru_cache(maxsize=1024)(_plain_field)


class TargetTooLong(BadRequest):  # as waitress names them
    code = 414


class RequestTimeout(BadRequest):
    code = 408


class Parser(HTTPRequestParser):
    """Answers 400 where waitress would drop the connection or wait for ever, and reads repeated fields from a cache."""

    # waitress' log lines read the path of a request that may have failed before it had one.
    path = command = request_uri = ""  # type: ignore[assignment]  # the stub says bytes
    headers: dict[str, str]
    query = ""
    arrived = 0.0
    noticed = 0.0  # when the loop first found that a part of it was still to come
    _beyond: BadRequest | None = None  # a limit

    def parse_header(self, header_plus: bytes) -> None:
        if b"\r\n " in header_plus or b"\r\n\t" in header_plus:
            raise ParsingError("A header field must not go on in the next line")
        rest = self._take_plain_fields(header_plus)
        try:
            super().parse_header(rest)
        except ValueError as error:  # from urlsplit ("http://[") or int (more than 4300 digits)
            raise ParsingError("The request line or Content-Length is invalid") from error
        if self.chunked or "TRANSFER_ENCODING" in self.headers:
            self._check_chunks(rest)

    def _check_chunks(self, head: bytes) -> None:
        """Where others might see the end of the body elsewhere (RFC 9112, 6.1 and 6.3), it is better not to guess."""
        if "CONTENT_LENGTH" in self.headers:
            raise ParsingError("There must not be a Content-Length beside a Transfer-Encoding")
        if not self.chunked:
            raise ParsingError("HTTP/1.0 has no Transfer-Encoding")
        codings = [line.lower() for line in head.split(b"\r\n") if line[:17].lower() == b"transfer-encoding"]
        if len(codings) != 1 or codings[0].count(b"chunked") != 1:
            raise ParsingError("Transfer-Encoding must be chunked, once")
        assert self.body_rcv is not None, "it is set where a body is to come"
        self.body_rcv = Chunks(self.body_rcv.buf)

    def _take_plain_fields(self, head: bytes) -> bytes:
        """Keep the fields that the cache knows to be harmless; the rest of the head is waitress' to judge."""
        first, *lines = head.split(b"\r\n")
        if len(first) > MAX_FIRST_LINE_BYTES:
            self._beyond = TargetTooLong("")
            raise ParsingError("")
        if not _FIRST_LINE.fullmatch(first):
            raise ParsingError(
                "The first line must be a method, a target without white space, and HTTP/1.1 or HTTP/1.0"
            )
        if len(lines) > MAX_HEADER_FIELDS + 2:  # and what follows the last two line ends
            self._beyond = RequestHeaderFieldsTooLarge("")
            raise ParsingError("")
        rest = [first]
        for line in lines:
            field = (_cached_plain_field if len(line) <= _MAX_CACHED_LINE_BYTES else _plain_field)(line)
            if field is None:
                rest.append(line)
                continue
            name, value = field
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        return b"\r\n".join(rest)

    def received(self, data: bytes) -> int:
        consumed = super().received(data)
        if self.completed:
            self.error = self._beyond or self.error
            self.arrived = time.monotonic()
            # Nothing is left to continue with; waitress would send "100 Continue" and wait for a body.
            self.expect_continue = False
        return consumed
