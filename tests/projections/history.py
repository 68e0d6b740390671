"""Histories written straight into the log: any event, at any time, whether or not a rule would have allowed it."""

from collections.abc import Iterable
from datetime import datetime
from uuid import uuid4

from eventsourcing.persistence import StoredEvent

from ledger.facts import Entry, Event
from ledger.store.connection import Connection
from ledger.store.hash_chain import BEGINNING, digests_after
from ledger.store.mapper import to_stored

_HEAD = "SELECT notification_id, digest FROM stored_events ORDER BY notification_id DESC LIMIT 1"
_VERSION = "SELECT coalesce(max(originator_version), 0) FROM stored_events WHERE originator_id = %s"
_INSERT = """
INSERT INTO stored_events (originator_id, originator_version, topic, state, notification_id, recorded_at, digest)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""


def record(conn: Connection, facts: Iterable[tuple[datetime, str, Event]]) -> None:
    """Append facts (time, stream, event); the inline read models hear nothing of it."""
    for at, stream, event in facts:
        ((version,),) = conn.execute(_VERSION, [stream]).fetchall()
        _append(conn, at, to_stored(Entry(0, at, stream, version + 1, event)))


def record_nonsense(conn: Connection, at: datetime) -> None:
    """Append an event that no version of the service has ever known."""
    _append(conn, at, StoredEvent(f"stock/main/nonsense-{uuid4()}", 1, "Nonsense.v1", b"{}"))


def _append(conn: Connection, at: datetime, stored: StoredEvent) -> None:
    position, before = conn.execute(_HEAD).fetchone() or (0, BEGINNING)
    digests = digests_after(before, position, at, [stored])
    row = (stored.originator_id, stored.originator_version, stored.topic, stored.state, position + 1, at, *digests)
    conn.execute(_INSERT, row)
