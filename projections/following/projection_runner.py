"""Read models that follow the log: their runner, which applies batches of entries, and how far each one is.

Rows and position are written in one transaction, so an entry is applied once, whatever dies when. An event that cannot
be applied stops the one model that it stops, and the table `following` says so; the others go on.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import psycopg

from ledger.facts import Entry
from ledger.store.connection import BoundedConnection
from ledger.store.log import read
from ledger.store.roundtrip import ask_one, transaction
from projections.following import movements_daily, valuations_daily
from projections.following.leadership import lead

BATCH_ENTRIES = 20_000
# With nothing to do. Half a second behind is as good as now for a report, and five looks a second cost nothing.
IDLE_SECONDS = 0.2
# To take over from a leader that died, to come back to a database that went away, and to try again what failed.
STAND_BY_SECONDS = 1.0
RETRY_FAILED_SECONDS = 60.0
# A database that has stopped without a word must not keep the process from ending.
ANSWER_SECONDS = 10.0
MAX_ERROR_LENGTH = 1_000

_ENROL = "INSERT INTO following (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING"
_PROGRESS = """
SELECT name, position, failed_position IS NOT NULL,
    position < (SELECT coalesce(max(notification_id), 0) FROM stored_events) AS is_behind
FROM following WHERE name = ANY($1)
"""
_POSITION = "SELECT position FROM following WHERE name = $1 FOR UPDATE"
# A rebuild writes it too, and may be the first.
ADVANCE = """
INSERT INTO following (name, position) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET
    position = excluded.position,
    updated_at = clock_timestamp(),
    failed_position = NULL,
    error = NULL,
    failed_at = NULL
"""
_FAIL = """
UPDATE following SET failed_position = position + 1, error = $2, failed_at = clock_timestamp() WHERE name = $1
"""
_LAGS = """
SELECT
    known.name,
    coalesce(f.position, 0),
    head.position - coalesce(f.position, 0),
    coalesce(extract(epoch FROM statement_timestamp() - next.recorded_at), 0)::float8,
    f.failed_position
FROM unnest($1::text[]) WITH ORDINALITY AS known (name, number)
CROSS JOIN (SELECT coalesce(max(notification_id), 0) AS position FROM stored_events) AS head
LEFT JOIN following AS f ON f.name = known.name
LEFT JOIN stored_events AS next ON next.notification_id = coalesce(f.position, 0) + 1
ORDER BY known.number
"""

_DATABASE_AWAY = (psycopg.OperationalError, psycopg.InterfaceError)

logger = logging.getLogger(__name__)


class Model(NamedTuple):
    """`apply` carries entries, in order and each once, into `tables`, within the caller's transaction."""

    name: str
    tables: tuple[str, ...]
    apply: Callable[[BoundedConnection, Sequence[Entry]], None]


MODELS = (
    Model("movements_daily", movements_daily.TABLES, movements_daily.apply),
    Model("valuations_daily", valuations_daily.TABLES, valuations_daily.apply),
)


class Lag(NamedTuple):
    """`events` of the log are not in the rows yet, the oldest of them for `seconds`; one may have stopped the model."""

    name: str
    position: int
    events: int
    seconds: float
    failed_position: int | None


def lags(conn: BoundedConnection) -> list[Lag]:
    """How far each following read model is behind, in the order of MODELS."""
    rows = ask_one(conn, _LAGS, [model.name for model in MODELS])
    return [Lag(name, position, events, max(0.0, seconds), failed) for name, position, events, seconds, failed in rows]


class Follower:
    """Applies the log to `models`. Any number may run side by side: one leads, the others stand by."""

    def __init__(self, url: str, schema: str, models: Sequence[Model] = MODELS) -> None:
        self._where = (url, schema)
        self._models = models
        self._conn: BoundedConnection | None = None
        self._stopping = threading.Event()
        # How many entries a model is given at once: fewer and fewer while one among them cannot be applied.
        self._room = dict.fromkeys((model.name for model in models), BATCH_ENTRIES)
        # When to try again what failed, by the monotonic clock.
        self._retry_at = dict.fromkeys((model.name for model in models), 0.0)
        # Models that are equally far share what was read: after which position, how many at most, the entries.
        self._last_read: tuple[int, int, list[Entry]] = (0, 0, [])

    def stop(self) -> None:
        """End after the batch that is being applied."""
        self._stopping.set()

    def run(self) -> None:
        """Work until `stop`; goes on through every failure of the database."""
        while not self._stopping.is_set():
            try:
                pause = self.step()
            except _DATABASE_AWAY as error:
                logger.warning("following has to wait: %s", str(error).partition("\n")[0])
                self.close()
                pause = STAND_BY_SECONDS
            self._stopping.wait(pause)
        self.close()

    def step(self) -> float:
        """Apply a batch to each model; return the seconds to sleep until there is more to do."""
        if self._conn is None and not self._lead():
            return STAND_BY_SECONDS
        assert self._conn is not None, "the leader is connected"
        names = list(self._room)
        behind = {row[0]: row for row in ask_one(self._conn, _PROGRESS, names) if row[3]}
        moved = [self._advance(self._conn, m) for m in self._models if m.name in behind and self._may(*behind[m.name])]
        return 0.0 if any(moved) else IDLE_SECONDS

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()  # and with it the lead
            self._conn = None

    def _lead(self) -> bool:
        """Whether this process leads, by a lock that the server holds for as long as the connection lives."""
        conn = lead(*self._where, "follow", answer_seconds=ANSWER_SECONDS)
        if conn is None:
            return False
        self._conn = conn
        ask_one(conn, _ENROL, list(self._room))
        return True

    def _may(self, name: str, _position: int, has_failed: bool, _is_behind: bool) -> bool:
        return not has_failed or time.monotonic() >= self._retry_at[name]

    def _advance(self, conn: BoundedConnection, model: Model) -> bool:
        """Apply a batch; whether there may be more to do at once."""
        room = self._room[model.name]
        try:
            with transaction(conn):
                ((position,),) = ask_one(conn, _POSITION, model.name)
                entries = self._entries(conn, position, room)
                if entries:
                    model.apply(conn, entries)
                    ask_one(conn, ADVANCE, model.name, entries[-1].position)
        except _DATABASE_AWAY:
            raise
        except Exception as error:  # whatever an event may bring about
            if room == 1:
                self._fail(conn, model, error)
                return False
            self._room[model.name] = room // 2
            return True
        self._room[model.name] = min(room * 2, BATCH_ENTRIES)
        return len(entries) == room

    def _entries(self, conn: BoundedConnection, after: int, limit: int) -> list[Entry]:
        """Raises UnreadableEventError."""
        if self._last_read[:2] != (after, limit) or len(self._last_read[2]) < limit:
            self._last_read = (after, limit, read(conn, after, limit))
        return self._last_read[2]

    def _fail(self, conn: BoundedConnection, model: Model, error: Exception) -> None:
        """Write down which event stops the model, and leave it alone for a while."""
        text = f"{type(error).__name__}: {error}"[:MAX_ERROR_LENGTH]
        ask_one(conn, _FAIL, model.name, text)
        self._retry_at[model.name] = time.monotonic() + RETRY_FAILED_SECONDS
        logger.error("%s is stopped by an event that it cannot apply: %s", model.name, text)
