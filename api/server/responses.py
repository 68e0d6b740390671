"""Answers as waitress writes them, at less cost and always complete; and what the server refuses by itself.

What never lives here: requests (parser.py), connections (channel.py), what the application says. Each override tells
what waitress does.
"""

import logging
import re
import sys
import uuid
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import msgspec
from waitress.proxy_headers import PROXY_HEADERS
from waitress.task import ErrorTask, Task, WSGITask
from waitress.utilities import InternalServerError, build_http_date

from api.server.parser import MAX_BODY_BYTES, MAX_FIRST_LINE_BYTES, MAX_HEADER_BYTES, MAX_HEADER_FIELDS, Parser

logger = logging.getLogger(__name__)


# What api/http/requests.py takes for a sensible X-Request-Id.
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
REFUSALS = {  # status: slug, title, detail; without a detail, waitress' own sentence says what is wrong
    400: ("bad-request", "Bad Request", ""),
    408: ("request-timeout", "Request Timeout", "The request did not arrive in time."),
    413: ("body-too-large", "Content Too Large", f"A body has at most {MAX_BODY_BYTES} bytes."),
    414: ("target-too-long", "URI Too Long", f"The request line has at most {MAX_FIRST_LINE_BYTES} bytes."),
    431: (
        "headers-too-large",
        "Request Header Fields Too Large",
        f"Headers have at most {MAX_HEADER_FIELDS} fields and {MAX_HEADER_BYTES} bytes.",
    ),
    500: ("internal-error", "Internal Server Error", "The request failed; the log tells why under this X-Request-Id."),
    501: ("not-implemented", "Not Implemented", ""),
}
_MAX_DETAIL_CHARACTERS = 500
# On every answer. A browser must neither guess what an answer is, nor tell others where it was asked for.
_ALWAYS = "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer"


@lru_cache(maxsize=512)
def _title(name: str) -> str:
    """`x-request-id` as `X-Request-Id`, the usual spelling."""
    return "-".join(part.capitalize() for part in name.split("-"))


@lru_cache(maxsize=512)
def _variable(name: str) -> str | None:
    """Where the application finds a header field; None for what only a trusted proxy may say, and there is none."""
    if name in PROXY_HEADERS:
        return None
    return name if name in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{name}"


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return f"Date: {build_http_date(second)}"


class Host(Protocol):
    """The server that a connection belongs to, as an answer sees it (`api.server.server`)."""

    environ: dict[str, Any]
    refused: Callable[[str, int, str, str], None]


class Connection(Protocol):
    """The connection that an answer is written to (`api.server.channel`)."""

    addr: Any
    requests: Sequence[Parser]
    server: Host

    def write_soon(self, data: bytes) -> int: ...

    def is_last_answer(self) -> bool: ...

    def check_client_disconnected(self) -> bool: ...


class Answer(Task):
    """Writes an answer: head and first piece in one send (waitress: two), names and date from a cache."""

    channel: Connection  # type: ignore[assignment]  # the stub says HTTPChannel
    request: Parser  # type: ignore[assignment]  # the stub says Error

    def write(self, data: bytes) -> None:
        """Write the next piece of the body, after the head if that is still to come; may be empty."""
        if not self.complete:
            raise RuntimeError("start_response was not called before the body")
        head = b"" if self.wrote_header else self.build_response_header()
        self.channel.write_soon(head + self._frame(data))
        self.wrote_header = True

    def _frame(self, data: bytes) -> bytes:
        if not data or not self.has_body or self.request.command == "HEAD":
            return b""
        if self.chunked_response:
            return b"%X\r\n%b\r\n" % (len(data), data)
        if self.content_length is not None:
            data = data[: self.content_length - self.content_bytes_written]
            self.content_bytes_written += len(data)
        return data

    def build_response_header(self) -> bytes:
        """Status line and headers as the application gave them, completed by length, persistence and date."""
        lines = [f"HTTP/{self.version} {self.status}"]
        given = set()
        for raw_name, value in self.response_headers:
            name = _title(raw_name)
            given.add(name)
            if name != "Content-Length" or self.has_body:
                lines.append(f"{name}: {value}")
        if "Content-Length" not in given:
            lines += self._length()
        if "Cache-Control" not in given:
            lines.append("Cache-Control: no-store")
        lines.append(_ALWAYS)
        lines += self._persistence()
        if "Date" not in given:
            lines.append(_date(int(self.start_time)))
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    def _length(self) -> list[str]:
        """How the client finds the end of a body whose length the application did not give (RFC 9112, 6.3)."""
        if not self.has_body:
            return []
        if self.content_length is not None:
            return [f"Content-Length: {self.content_length}"]
        if self.request.command == "HEAD":
            return []
        if self.version == "1.1":
            self.chunked_response = True
            return ["Transfer-Encoding: chunked"]
        self.close_on_finish = True
        return []

    def _persistence(self) -> list[str]:
        """Whether the connection stays open (RFC 9112, 9.3); unlike waitress', also after 204, 304 and chunks."""
        asked = {token.strip() for token in self.request.headers.get("CONNECTION", "").lower().split(",")}
        if "close" in asked or (self.version == "1.0" and "keep-alive" not in asked) or self.channel.is_last_answer():
            self.close_on_finish = True
        if self.close_on_finish:
            return ["Connection: close"]
        return ["Connection: Keep-Alive"] if self.version == "1.0" else []

    def set_close_on_finish(self) -> None:
        """Only the flag: `_persistence` writes the header."""
        self.close_on_finish = True


def base_environ(server_name: str, port: int) -> dict[str, Any]:
    """What the application finds in every environ (PEP 3333)."""
    return {
        "SERVER_NAME": server_name,
        "SERVER_PORT": str(port),
        "SERVER_SOFTWARE": "",
        "SCRIPT_NAME": "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }


class ApplicationAnswer(Answer, WSGITask):
    """What the application answers.

    It is told since when (time.monotonic) the request waits, `stockledger.arrived`, and whose threads it has:
    `stockledger.pool`.
    """

    def get_environment(self) -> dict[str, Any]:
        """waitress' own, put together faster: most of it is the same for every request."""
        request, channel = self.request, self.channel
        path = request.path
        environ = channel.server.environ | {
            "REMOTE_ADDR": channel.addr[0],
            "REMOTE_HOST": channel.addr[0],
            "REMOTE_PORT": str(channel.addr[1]),
            "REQUEST_METHOD": request.command.upper(),
            "SERVER_PROTOCOL": f"HTTP/{self.version}",
            "PATH_INFO": f"/{path.lstrip('/')}" if path.startswith("//") else path,
            "REQUEST_URI": request.request_uri,
            "QUERY_STRING": request.query,
            "wsgi.input": request.get_body_stream(),
            "waitress.client_disconnected": channel.check_client_disconnected,
            "stockledger.arrived": request.arrived,
        }
        for name, value in request.headers.items():
            if (variable := _variable(name)) is not None:
                environ[variable] = value
        return environ


class Refusal(Answer, ErrorTask):
    """What the server answers by itself: always a problem (RFC 9457) with a request id, and the connection ends."""

    def execute(self) -> None:
        # For a failed application waitress hands over a blank request; the one that was asked is still the first.
        asked = self.channel.requests[0]
        self.request.command = asked.command
        error = self.request.error or InternalServerError("")
        slug, title, detail = REFUSALS[error.code]
        detail = detail or error.body[:_MAX_DETAIL_CHARACTERS]
        body = msgspec.json.encode(
            {"type": f"/problems/{slug}", "title": title, "status": error.code, "detail": detail}
        )
        request_id = asked.headers.get("X_REQUEST_ID", "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex
        if error.code == InternalServerError.code:
            logger.error("the exception above is the answer to request %s", request_id)
        self.channel.server.refused(asked.command, error.code, slug, request_id)
        self.status = f"{error.code} {title}"
        self.response_headers = [("Content-Type", "application/problem+json"), ("X-Request-Id", request_id)]
        self.content_length = len(body)
        self.close_on_finish = True
        self.write(body)
