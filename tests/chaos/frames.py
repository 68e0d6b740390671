"""What a client says to PostgreSQL: its byte stream cut into frames, and the SQL text that each frame executes.

Of the protocol (version 3) only what tells a COMMIT from the rest: a frame is a type byte and an int32 length, the
first one has no type. A statement is named by Parse, tied to a portal by Bind and run by Execute, often long after its
text has gone over the wire.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

STARTUP, PARSE, BIND, EXECUTE, QUERY, SYNC = b"", b"P", b"B", b"E", b"Q", b"S"

_PROTOCOL_3 = 3 << 16


class Frame(NamedTuple):
    """`raw` is all of it, as it came; `body` is what follows type and length."""

    kind: bytes
    body: bytes
    raw: bytes


class Stream:
    """One client's bytes: fed in any pieces, taken out as whole frames."""

    def __init__(self) -> None:
        self._rest = b""
        self._started = False

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now."""
        self._rest += data
        while (frame := self._next()) is not None:
            self._rest = self._rest[len(frame.raw) :]
            self._started = self._started or frame.body.startswith(struct.pack("!i", _PROTOCOL_3))
            yield frame

    def _next(self) -> Frame | None:
        head = 1 if self._started else 0
        if len(self._rest) < head + 4:
            return None
        (length,) = struct.unpack_from("!i", self._rest, head)
        end = head + length
        if len(self._rest) < end:
            return None
        return Frame(self._rest[:head], self._rest[head + 4 : end], self._rest[:end])


class Session:
    """What one client has prepared and bound so far. `application` is the name that it gave itself."""

    def __init__(self) -> None:
        self.application = ""
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, bytes] = {}

    def executes(self, frame: Frame) -> str | None:
        """Take in a frame; the SQL text that it has the server execute, None for a frame that executes nothing."""
        match frame.kind:
            case b"":
                members = frame.body[4:].split(b"\0")
                given = dict(zip(members[::2], members[1::2], strict=False))
                self.application = given.get(b"application_name", b"").decode()
            case b"P":
                name, text, _ = frame.body.split(b"\0", 2)
                self._statements[name] = text.decode()
            case b"B":
                portal, name, _ = frame.body.split(b"\0", 2)
                self._portals[portal] = name
            case b"E":
                portal, _ = frame.body.split(b"\0", 1)
                return self._statements[self._portals[portal]]
            case b"Q":
                return frame.body.rstrip(b"\0").decode()
        return None


def ends_request(frame: Frame) -> bool:
    """Whether the server answers up to here without waiting for more."""
    return frame.kind in (SYNC, QUERY)
