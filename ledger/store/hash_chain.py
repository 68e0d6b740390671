"""The chain of the log: an entry's digest is the SHA-256 of the digest before it and of its own line.

So the digest at a position stands for every byte up to it. The line is that of `ledger.store.entry_lines`; migration
0011 says the same in SQL.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime

from eventsourcing.persistence import StoredEvent

from ledger.store.entry_lines import LINE, quoted, time_text

# Stands before the first entry.
BEGINNING = bytes(32)

# A copy of an empty hash is made in less than half the time of a new one.
_hash = hashlib.sha256().copy


def seal(before: bytes, line: bytes) -> bytes:
    """The digest of the entry that has this line; `before` is that of the entry before."""
    sealing = _hash()
    sealing.update(before + line)
    return sealing.digest()


def digests_after(
    before: bytes, position: int, recorded_at: datetime, stored_events: Iterable[StoredEvent]
) -> list[bytes]:
    """The digest of each of the events that follow `position` and its digest, all of one transaction.

    It is on the path of every write, so what they have in common is made once.
    """
    time = time_text(recorded_at).encode()
    digests = []
    for event in stored_events:
        position += 1
        stream, version, name = str(event.originator_id), event.originator_version, event.topic
        before = seal(before, LINE % (position, time, quoted(stream), version, quoted(name), event.state))
        digests.append(before)
    return digests
