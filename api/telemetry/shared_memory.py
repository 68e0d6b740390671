"""Memory that a parent shares with the processes it forks: each has a place in it, which all can read.

No files, so nothing is left behind by whoever is killed; and what a process wrote outlives it, for the next in its
place.
"""

import mmap
import struct
import zlib
from collections.abc import Sequence

# What a process writes is about 20 KiB; pages that nobody touches take no memory.
HALF_BYTES = 1 << 18
_HEAD = struct.Struct("<QII")  # which write it was, length, checksum
_READ_TRIES = 5


class SharedMemory:
    """Make it before the fork. A place has one writer at a time, and two halves that are written in turn."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._memory = mmap.mmap(-1, 2 * HALF_BYTES * len(self.names))

    def write(self, name: str, content: bytes) -> None:
        """Replace what the place of that name holds; raises ValueError when it is too long."""
        if _HEAD.size + len(content) > HALF_BYTES:
            raise ValueError(f"{len(content)} bytes do not fit")
        halves = self._halves(name)
        number = max(self._number(half) for half in halves) + 1
        start = min(halves, key=self._number)
        # The older half, so that a reader always finds one that is whole, wherever a writer was killed.
        self._memory[start + _HEAD.size : start + _HEAD.size + len(content)] = content
        self._memory[start : start + _HEAD.size] = _HEAD.pack(number, len(content), zlib.crc32(content))

    def read(self, name: str) -> bytes | None:
        """What the place holds, None if nothing was ever written there."""
        for _ in range(_READ_TRIES):  # a writer may be quicker than we are
            for start in sorted(self._halves(name), key=self._number, reverse=True):
                number, length, checksum = _HEAD.unpack_from(self._memory, start)
                if number and length <= HALF_BYTES:
                    content = self._memory[start + _HEAD.size : start + _HEAD.size + length]
                    if zlib.crc32(content) == checksum:
                        return content
        return None

    def _halves(self, name: str) -> tuple[int, int]:
        start = 2 * HALF_BYTES * self.names.index(name)
        return start, start + HALF_BYTES

    def _number(self, start: int) -> int:
        number: int = _HEAD.unpack_from(self._memory, start)[0]
        return number
