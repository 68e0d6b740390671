"""Bodies that arrive in chunks (RFC 9112, 7.1), read strictly: what is read otherwise elsewhere would be taken apart
at another place there, and the rest for a request of its own. waitress' receiver takes bare line feeds and blank lines.
"""

import re
from collections.abc import Callable

from waitress.buffers import OverflowableBuffer
from waitress.receiver import ChunkedReceiver
from waitress.utilities import BadRequest

MAX_LINE_BYTES = 4_096
MAX_TRAILER_BYTES = 8_192

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")


class Chunks(ChunkedReceiver):
    """Takes what waitress' receiver takes, if it is in order; extensions and trailers are read and left out."""

    def __init__(self, buf: OverflowableBuffer) -> None:
        super().__init__(buf)
        self._left = 0  # of the chunk that is arriving
        self._line = b""  # as far as it has arrived
        self._take: Callable[[bytes], None] = self._take_size
        self._trailer_bytes = 0

    def received(self, s: bytes) -> int:
        """How many bytes belong to this body; `completed` after the last of them, `error` where they make no sense."""
        at = 0
        while at < len(s) and not self.completed and self.error is None:
            if self._left:
                piece = s[at : at + self._left]
                self.buf.append(piece)
                self._left -= len(piece)
                at += len(piece)
            else:
                at += self._read_line(s[at:])
        return at

    def _read_line(self, data: bytes) -> int:
        begun = self._line + data[: MAX_LINE_BYTES + 2]
        end = begun.find(b"\r\n")
        if self._take == self._take_end and not b"\r\n".startswith(begun[:2]):
            self._refuse("A chunk is longer than its size")
        elif end < 0 and len(begun) > MAX_LINE_BYTES:
            self._refuse("A line between chunks is too long")
        elif end < 0:
            self._line = begun
        else:
            taken = end + 2 - len(self._line)
            self._line = b""
            self._take(begun[:end])
            return taken
        return len(data)

    def _take_size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            self._refuse("The size of a chunk is invalid")
            return
        self._left = int(match[1], 16)
        self._take = self._take_end if self._left else self._take_trailer

    def _take_end(self, _: bytes) -> None:
        self._take = self._take_size

    def _take_trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        if not line:
            self.completed = True
        elif not _TRAILER.fullmatch(line) or self._trailer_bytes > MAX_TRAILER_BYTES:
            self._refuse("What follows the last chunk is invalid")

    def _refuse(self, detail: str) -> None:
        self.error = BadRequest(detail)
