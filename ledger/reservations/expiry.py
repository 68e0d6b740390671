"""Writing down that reservations are over, at the moment when they are.

Finds nothing itself: it is given what is due, and hands it to the ledger, which checks it by the clock under its lock.
So any number of these may run side by side: whoever comes second finds nothing to write.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

from ledger.commands import Command
from ledger.errors import LedgerError
from ledger.reservations.commands import ExpireReservation

# Reservations handed over at once: large enough to catch up fast, small enough not to keep the lock from others.
BATCH = 200
# A hold lasts a second at least, and so does an extension: what is made while this sleeps is not due before it wakes.
MAX_SLEEP_SECONDS = 1.0
RETRY_SECONDS = 0.5

logger = logging.getLogger(__name__)

# Given a limit: reservations that are due now, and seconds until the next one is (None if there is none).
Due = Callable[[int], tuple[Sequence[UUID], float | None]]


class Handles(Protocol):
    """The ledger, as far as it is needed here."""

    def handle_many(self, commands: Sequence[Command]) -> Sequence[object]: ...


class Expiry:
    def __init__(self, ledger: Handles, due: Due) -> None:
        self._ledger = ledger
        self._due = due
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Work until `stop`; goes on through every failure of the database."""
        while not self._stopping.is_set():
            try:
                pause = self.step()
            except LedgerError as error:
                logger.warning("expiry has to wait: %s", error)
                pause = RETRY_SECONDS
            self._stopping.wait(pause)

    def step(self) -> float:
        """Release what is due, one batch at most; return the seconds to sleep until there is more to do."""
        due, next_due_seconds = self._due(BATCH)
        if due:
            self._expire(due)
        if len(due) == BATCH:
            return 0.0
        return MAX_SLEEP_SECONDS if next_due_seconds is None else min(MAX_SLEEP_SECONDS, max(0.0, next_due_seconds))

    def _expire(self, due: Sequence[UUID]) -> None:
        for result in self._ledger.handle_many([ExpireReservation(reservation_id=i) for i in due]):
            if isinstance(result, LedgerError):
                raise result
