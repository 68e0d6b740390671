"""The one door for writes: `Ledger.handle`."""

from collections.abc import Sequence

from ledger.commands import Command, Group, Key
from ledger.engine.batch import Result
from ledger.engine.committer import Committer
from ledger.engine.committer_counters import CommitterCounters
from ledger.errors import LedgerError
from ledger.outcome import Outcome
from ledger.room import ReadModels, Rooms
from ledger.store.connection import WRITE_SECONDS, connect
from ledger.store.log import Log


class Ledger:
    """Opens its connection when the first command comes; make it after a fork, not before."""

    def __init__(self, url: str, schema: str, rooms: Rooms, read_models: ReadModels) -> None:
        log = Log(url, schema)
        self._committer = Committer(
            lambda: connect(url, schema, "stockledger committer", answer_seconds=WRITE_SECONDS), log, rooms, read_models
        )

    def handle(self, command: Command) -> Outcome:
        """Carry out one command and return what it left behind; raises the LedgerError that refuses it."""
        (result,) = self.handle_many([command])
        if isinstance(result, LedgerError):
            raise result
        return result

    def handle_many(
        self, commands: Sequence[Command], *, atomic: bool = False, key: Key | None = None
    ) -> Sequence[Result]:
        """Carry out commands in order, in one transaction, and return a result for each.

        Each stands for itself; with `atomic` all are carried out or none, and if one is refused the others' result is
        AbandonedError. If `key` came with another request before, all are refused with KeyReusedError.
        """
        return self._committer.submit(Group(commands, atomic, key))

    def is_alive(self) -> bool:
        return self._committer.is_alive()

    @property
    def counters(self) -> CommitterCounters:
        return self._committer.counters

    @property
    def waiting(self) -> int:
        """Commands that wait for a transaction."""
        return self._committer.batcher.waiting

    def close(self) -> None:
        """Finish what waits, then end."""
        self._committer.stop()
