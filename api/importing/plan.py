"""From the rows of a file to the steps of its import: what each row asks for, in chunks of one transaction.

What never lives here: the database.
"""

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import chain, islice

from msgspec import Struct

from api.importing.files import Row, move
from api.importing.options import ImportOptions
from api.importing.rows import ACTOR, RowReader
from ledger.commands import Command
from ledger.errors import InvalidError, LedgerError
from ledger.reservations.commands import MakeReservation
from ledger.stock.commands import AddStock, RemoveStock


class Step(Struct):
    """What is to be done for one row: a command, nothing, or to reject it. `line` is 0 for an opening stock."""

    line: int
    original: list[str]
    command: Command | None = None
    problem: LedgerError | None = None


class Chunk(Struct):
    """Steps of one transaction, and how many bytes of the file had been read by then."""

    steps: list[Step]
    position: int


def chunks(options: ImportOptions, first: Iterable[Step] = (), skip: int = 0) -> Generator[Chunk, None, None]:
    """The steps of an import, `first` before those of the file, without the first `skip` of them all."""
    with options.source.rows(options.meaning.used()) as (rows, position):
        steps = chain(first, _steps(options, rows))
        for _ in islice(steps, skip):
            pass  # read all the same: what a row adds depends on what the rows before it said
        while found := list(islice(steps, options.batch)):
            yield Chunk(found, position())


def _steps(options: ImportOptions, rows: Iterable[Row]) -> Iterator[Step]:
    reader = RowReader(options.meaning, options.source.header(options.meaning.used()), options.ttl_seconds)
    prefix = f"import:{options.which.import_id}:"
    for row in rows:
        if row.problem is not None:
            yield Step(row.line, row.original, None, InvalidError({"row": row.problem}))
            continue
        try:
            yield Step(row.line, row.original, reader.read(row.cells, f"{prefix}{row.line}"))
        except InvalidError as error:
            yield Step(row.line, row.original, None, error)


class Ahead:
    """Takes chunks one by one; from `begin` on, another thread makes the next one."""

    def __init__(self, made: Generator[Chunk, None, None]) -> None:
        self._made = made
        self._thread = ThreadPoolExecutor(1, "import reader")
        self._coming: Future[Chunk | None] | None = None

    def begin(self) -> None:
        if self._coming is None:
            self._coming = self._thread.submit(next, self._made, None)

    def take(self) -> Chunk | None:
        """The next chunk; None at the end."""
        self.begin()
        assert self._coming is not None, "it has been begun"
        coming, self._coming = self._coming, None
        return coming.result()

    def close(self) -> None:
        self._thread.shutdown()
        self._made.close()


def opening(options: ImportOptions) -> list[Step]:
    """Add to each SKU the least stock from which all movements of the file can be made, in their order."""
    levels: dict[str, int] = {}
    least: dict[str, int] = {}
    with options.source.bar("opening stock of") as bar, closing(chunks(options)) as ready:
        for chunk in ready:
            for sku, change in (pair for step in chunk.steps for pair in _changes(step.command)):
                levels[sku] = levels.get(sku, 0) + change
                least[sku] = max(least.get(sku, 0), -levels[sku])
            move(bar, chunk.position)
    request_id, reason = f"import:{options.which.import_id}:opening", "opening stock"
    return [
        Step(0, [], AddStock(sku=sku, quantity=quantity, actor=ACTOR, request_id=request_id, reason=reason))
        for sku, quantity in least.items()
        if quantity
    ]


def _changes(command: Command | None) -> Iterator[tuple[str, int]]:
    """What a movement changes of what is available, by SKU."""
    match command:
        case AddStock():
            yield command.sku, command.quantity
        case RemoveStock():
            yield command.sku, -command.quantity
        case MakeReservation():
            yield from ((line.sku, -line.quantity) for line in command.lines)
