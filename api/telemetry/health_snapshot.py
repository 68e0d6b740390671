"""How the service is: what the database says of itself and of the processes that write to it, asked now and then."""

import threading
import time

from msgspec import Struct

from ledger.caller import seconds_left
from ledger.errors import LedgerError
from ledger.store import migrate
from ledger.store.connection import BoundedConnection
from projections.following import projection_runner
from projections.following.projection_runner import Lag
from projections.reader import Reader
from projections.reservations import reservations

# Probes and scrapes come often, from several sides.
KEPT_SECONDS = 0.5


class HealthSnapshot(Struct, frozen=True, kw_only=True):
    """`expiry` and `following` are known only of a database that answers and is migrated."""

    database: bool = False
    migrated: bool = False
    expiry: reservations.Lag | None = None
    following: tuple[Lag, ...] = ()


class Watch:
    """Takes a snapshot when somebody asks, and keeps what it found for a moment."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._guard = threading.Lock()
        self._found = HealthSnapshot()
        self._found_at = float("-inf")

    def now(self) -> HealthSnapshot:
        """Waits no longer than its caller; while nobody can say, the database counts as away."""
        if not self._guard.acquire(timeout=seconds_left()):
            return HealthSnapshot()
        try:
            if time.monotonic() - self._found_at > KEPT_SECONDS:
                self._found = self._look()
                self._found_at = time.monotonic()
            return self._found
        finally:
            self._guard.release()

    def _look(self) -> HealthSnapshot:
        try:
            return self._reader.read(_ask)
        except LedgerError:
            return HealthSnapshot()


def _ask(conn: BoundedConnection) -> HealthSnapshot:
    if not migrate.is_current(conn):
        return HealthSnapshot(database=True)
    return HealthSnapshot(
        database=True, migrated=True, expiry=reservations.lag(conn), following=tuple(projection_runner.lags(conn))
    )
