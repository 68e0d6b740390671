"""An entry of the log as a line of JSON: what `/api/events` sends, an export holds, and `verify` reads back.

The event's own JSON is carried as it is stored, byte for byte, so a line says exactly what the log says.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

import msgspec
from msgspec import Struct

# Position, time, stream as JSON, version, event's name as JSON, the event's JSON. Every digest of the log is made of
# such lines (migration 0011 makes them in SQL): no byte of it may ever change.
LINE = b'{"position":%d,"recorded_at":"%s","stream":%s,"version":%d,"event":%s,"data":%s}'


class StoredEntry(NamedTuple):
    """An entry as it is stored: `name` is the event's pinned name, `state` its JSON, byte for byte."""

    position: int
    recorded_at: datetime
    stream: str
    version: int
    name: str
    state: bytes


class SealedEntry(NamedTuple):
    """The same, with its digest."""

    position: int
    recorded_at: datetime
    stream: str
    version: int
    name: str
    state: bytes
    digest: bytes


class _Line(Struct, frozen=True, forbid_unknown_fields=True):
    position: int
    recorded_at: datetime
    stream: str
    version: int
    event: str
    data: msgspec.Raw


_decoder = msgspec.json.Decoder(_Line)


def to_line(entry: StoredEntry) -> bytes:
    """The entry without a line's end."""
    position, recorded_at, stream, version, name, state = entry
    return LINE % (position, time_text(recorded_at).encode(), quoted(stream), version, quoted(name), state)


@lru_cache(maxsize=10_000)
def quoted(text: str) -> bytes:
    """A text as JSON."""
    return msgspec.json.encode(text)


def from_line(line: bytes) -> StoredEntry:
    """The entry that a line holds; raises ValueError for one that `to_line` does not make."""
    read = _decoder.decode(line)  # msgspec's errors are ValueErrors
    if read.recorded_at.tzinfo is None:
        raise ValueError("recorded_at has no time zone")
    return StoredEntry(
        read.position, read.recorded_at.astimezone(UTC), read.stream, read.version, read.event, bytes(read.data)
    )


def time_text(moment: datetime) -> str:
    """A UTC time in RFC 3339, always to the microsecond."""
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
