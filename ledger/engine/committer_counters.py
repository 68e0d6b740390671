"""What the committer counts: commands by what their callers were told, and transactions by size and time."""

import time
from collections.abc import Sequence

from ledger.commands import Group
from ledger.engine.batch import Batch, Result
from ledger.engine.counters import SECONDS, SIZES, Histogram, LabelledCounter
from ledger.errors import LedgerError
from ledger.outcome import Outcome

Labels = tuple[str, ...]

# From so many transactions in a row that met a defect the ledger counts as out of order, for so long after the last.
DEFECTS_IN_A_ROW = 3
DEFECT_SECONDS = 60.0


class CommitterCounters:
    """`commands` by class of command and of refusal: Outcome when it was recorded, "replayed" when it had been before.

    The others have an empty key: `sizes` counts commands in a transaction; `waits`, how long the first of them waited
    for it; `transactions`, from the first statement to the end; `commits`, the round trip that appends and commits.
    """

    def __init__(self) -> None:
        self.commands: LabelledCounter[tuple[type, type | str]] = LabelledCounter()
        self.sizes: Histogram[Labels] = Histogram(SIZES)
        self.waits: Histogram[Labels] = Histogram(SECONDS)
        self.transactions: Histogram[Labels] = Histogram(SECONDS)
        self.commits: Histogram[Labels] = Histogram(SECONDS)
        self._working_since: float | None = None
        self._defects, self._last_defect_at = 0, 0.0

    def told(self, group: Group, results: Sequence[Result]) -> None:
        """Count commands by their results; for the thread that their caller waits in."""
        count = self.commands.count
        for command, result in zip(group.commands, results, strict=True):
            kind = "replayed" if isinstance(result, Outcome) and result.replayed else type(result)
            count((type(command), kind))

    def failed(self, group: Group, error: LedgerError) -> None:
        """The same for commands that have no result of their own."""
        for command in group.commands:
            self.commands.count((type(command), type(error)))

    def begun(self, groups: Sequence[Group], asked_at: float) -> None:
        """A transaction for groups of which the first was asked for at `asked_at` (time.monotonic)."""
        self._working_since = now = time.monotonic()
        self.waits.observe((), now - asked_at)
        self.sizes.observe((), sum(len(group.commands) for group in groups))

    def ended(self, batch: Batch) -> None:
        assert self._working_since is not None, "it has begun"
        self.transactions.observe((), time.monotonic() - self._working_since)
        self._working_since = None
        if batch.commit_seconds is not None:
            self.commits.observe((), batch.commit_seconds)
            self._defects = 0

    def met_defect(self) -> None:
        """A transaction for one caller has failed for a reason that nobody foresaw."""
        self._defects += 1
        self._last_defect_at = time.monotonic()

    def is_defective(self) -> bool:
        """Whether transactions fail one after another and none has committed since.

        One caller's command alone may meet a defect, and it may come again; so it takes some in a row, and it counts
        for a while only: then whoever routes requests sends some again, and they tell.
        """
        return self._defects >= DEFECTS_IN_A_ROW and time.monotonic() - self._last_defect_at < DEFECT_SECONDS

    def working_seconds(self) -> float:
        """How long the transaction that is at work has been, 0 when none is."""
        since = self._working_since
        return 0.0 if since is None else time.monotonic() - since
