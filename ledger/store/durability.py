"""Acknowledged means replicated: an answer that says "recorded" is as durable as the database makes a commit.

Where there are synchronous standbys, a COMMIT waits for them; but what it made is seen by others while it still waits,
and it goes on without them when the wait is cut off. So whoever *finds* a record, or whose wait was cut off, has to
wait by a commit of its own: what it flushes lies behind the record. Without standbys nothing of this costs anything.
"""

import psycopg

from ledger.store.connection import BoundedConnection
from ledger.store.roundtrip import RoundTrip

# In the statement that reads the log's head, so that it takes no round trip.
HAS_STANDBYS = "current_setting('synchronous_standby_names') <> ''"

# A transaction that only takes an id does not wait; one that writes to the write-ahead log does.
BEHIND = "SELECT pg_logical_emit_message(true, 'stockledger', '')"


class NotReplicatedError(psycopg.OperationalError):
    """What was committed is not known to be on the standbys."""


def wait_for_standbys(conn: BoundedConnection) -> None:
    """Return when all that this connection has seen is as durable as a commit of now.

    Raises psycopg.Error when it cannot be told: the wait was cut off again, or the connection was lost.
    """
    conn.was_cut_off = False
    trip = RoundTrip(conn)
    trip.ask("BEGIN")
    trip.ask(BEHIND)
    trip.ask("COMMIT")
    trip.go()
    require_not_cut_off(conn)


def require_not_cut_off(conn: BoundedConnection) -> None:
    """Raises NotReplicatedError, and closes the connection, if a wait for standbys was cut off on it."""
    if conn.was_cut_off:
        conn.close()
        raise NotReplicatedError("the wait for synchronous standbys was cut off")
