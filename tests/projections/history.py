"""Histories written straight into the log: any event, at any time, whether or not a rule would have allowed it."""

from collections.abc import Iterable
from datetime import datetime

from ledger.events import Entry, Event
from ledger.store.connection import Connection
from ledger.store.mapper import to_stored

_HEAD = "SELECT coalesce(max(notification_id), 0) FROM stored_events"
_VERSION = "SELECT coalesce(max(originator_version), 0) FROM stored_events WHERE originator_id = %s"
_INSERT = """
INSERT INTO stored_events (originator_id, originator_version, topic, state, notification_id, recorded_at)
VALUES (%s, %s, %s, %s, %s, %s)
"""


def record(conn: Connection, facts: Iterable[tuple[datetime, str, Event]]) -> None:
    """Append facts (time, stream, event); the inline read models hear nothing of it."""
    for at, stream, event in facts:
        ((position,),) = conn.execute(_HEAD).fetchall()
        ((version,),) = conn.execute(_VERSION, [stream]).fetchall()
        stored = to_stored(Entry(position + 1, at, stream, version + 1, event))
        head = [stored.originator_id, stored.originator_version, stored.topic, stored.state]
        conn.execute(_INSERT, [*head, position + 1, at])


def record_nonsense(conn: Connection, at: datetime) -> None:
    """Append an event that no version of the service has ever known."""
    ((position,),) = conn.execute(_HEAD).fetchall()
    conn.execute(_INSERT, [f"stock/main/nonsense-{position}", 1, "Nonsense.v1", b"{}", position + 1, at])
