"""An entry of the log as a line of JSON: what `/api/events` sends, an export holds, and `verify` reads back.

The event's own JSON is carried as it is stored, byte for byte, so a line says exactly what the log says.
"""

from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from ledger.store.log import StoredEntry


class _Line(Struct, frozen=True, forbid_unknown_fields=True):
    position: int
    recorded_at: datetime
    stream: str
    version: int
    event: str
    data: msgspec.Raw


_decoder = msgspec.json.Decoder(_Line)
_encode = msgspec.json.encode


def to_line(entry: StoredEntry) -> bytes:
    """The entry without a line's end."""
    return b'{"position":%d,"recorded_at":"%s","stream":%s,"version":%d,"event":%s,"data":%s}' % (
        entry.position,
        time_text(entry.recorded_at).encode(),
        _encode(entry.stream),
        entry.version,
        _encode(entry.name),
        entry.state,
    )


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
