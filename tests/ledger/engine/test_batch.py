"""One transaction of many commands: what goes to the server early, and what else is written with it."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from ledger.commands import Group
from ledger.engine.batch import APPEND_ENTRIES, Batch
from ledger.rooms import ROOMS
from ledger.stock.commands import AddStock, PutFungible, RemoveStock
from ledger.stock.errors import InsufficientStockError
from ledger.store.connection import BoundedConnection, connect
from ledger.store.log import Log, read
from ledger.store.roundtrip import RoundTrip
from projections.inline import InlineReadModels
from tests.ledger.store.test_chain import check


@pytest.fixture
def log(postgres_url: str, schema: str) -> Log:
    return Log(postgres_url, schema)


@pytest.fixture
def bounded(postgres_url: str, schema: str) -> Iterator[BoundedConnection]:
    with closing(connect(postgres_url, schema)) as connection:
        yield connection


def groups() -> list[Group]:
    """More events than are kept back, then a shortage, which has to ask the server, then as many events again."""
    put = Group([PutFungible(sku="A", amount_in_stock=1)])
    many = Group([AddStock(sku="A", quantity=1)] * APPEND_ENTRIES)
    return [put, many, Group([RemoveStock(sku="A", quantity=10_000)]), many]


def test_events_that_went_early_are_in_order_and_there_once(bounded: BoundedConnection, log: Log):
    batch = Batch(groups())
    batch.run(bounded, log, ROOMS, InlineReadModels())

    assert [entry.position for entry in read(bounded, 0)] == list(range(1, 2 * APPEND_ENTRIES + 3))
    assert read(bounded, 0) == batch.entries
    check(bounded)
    (short,) = batch.results[2]
    assert isinstance(short, InsufficientStockError)


def test_a_batch_that_failed_can_be_run_again(postgres_url: str, schema: str, log: Log):
    failures = iter([True, False])

    def note(_trip: RoundTrip, _batch: Batch) -> None:
        if next(failures):
            raise ConnectionError

    batch = Batch(groups(), note)
    with closing(connect(postgres_url, schema)) as lost, pytest.raises(ConnectionError):
        batch.run(lost, log, ROOMS, InlineReadModels())
    with closing(connect(postgres_url, schema)) as bounded:
        batch.run(bounded, log, ROOMS, InlineReadModels())

        assert read(bounded, 0) == batch.entries
    assert len(batch.results) == len(groups())
