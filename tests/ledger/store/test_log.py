"""The log on real PostgreSQL: order without gaps, append-only, and a reader that tails it misses nothing."""

import contextlib
import json
import threading
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent

from ledger.engine.ledger import Ledger
from ledger.errors import LedgerError, UnreadableEventError
from ledger.events import EVENTS, NAMES
from ledger.facts import Entry
from ledger.rooms import ROOMS
from ledger.stock.commands import AddStock, PutFungible, RemoveStock
from ledger.stock.events import StockAdded
from ledger.store.connection import Connection, connect
from ledger.store.log import read
from ledger.store.mapper import to_event, to_stored
from ledger.store.recorder import LedgerDatastore, LedgerRecorder
from projections.inline import InlineReadModels
from tests.ledger.given import BY

SAMPLES = Path(__file__).parent.parent / "stored_events.jsonl"


def stored(stream: str, version: int) -> StoredEvent:
    event = StockAdded(quantity=1, on_hand=version, reserved=0, **BY)
    return StoredEvent(stream, version, NAMES[type(event)], b'{"actor":"a","request_id":"r","quantity":1}')


@pytest.fixture
def recorder(postgres_url: str, schema: str):
    with LedgerDatastore(postgres_url, schema, pool_size=2) as datastore:
        yield LedgerRecorder(datastore)


def test_every_kind_of_event_has_a_stored_sample_that_decodes_and_encodes_to_the_same_bytes():
    samples = [json.loads(line) for line in SAMPLES.read_text().splitlines()]

    assert {sample["name"] for sample in samples} == set(EVENTS)
    for sample in samples:
        state = sample["state"].encode()
        event = to_event(sample["name"], state)
        assert NAMES[type(event)] == sample["name"]
        assert to_stored(Entry(1, None, "stock/main/A", 1, event)).state == state


def test_an_unknown_event_name_is_an_error_and_imports_nothing():
    with pytest.raises(UnreadableEventError, match="os:system"):
        to_event("os:system", b"{}")


def test_bytes_that_do_not_fit_the_event_are_an_error():
    with pytest.raises(UnreadableEventError, match=r"StockAdded\.v1"):
        to_event("StockAdded.v1", b'{"actor":"a","request_id":"r","quantity":"5","on_hand":1,"reserved":0}')


def test_entries_come_back_as_they_were_recorded(ledger: Ledger, conn: Connection):
    ledger.handle(PutFungible(sku="A", amount_in_stock=2, request_id="r1"))
    ledger.handle(AddStock(sku="A", quantity=3, request_id="r2", actor="ann", reason="found", reference="7"))

    entries = read(conn, 0)

    assert [(e.position, e.stream, e.version) for e in entries] == [
        (1, "product/A", 1),
        (2, "stock/main/A", 1),
        (3, "stock/main/A", 2),
    ]
    expected = StockAdded(
        quantity=3, on_hand=5, reserved=0, actor="ann", request_id="r2", reason="found", reference="7"
    )
    assert entries[2].event == expected
    assert read(conn, 1, 1) == entries[1:2]


def test_positions_have_no_gap_after_a_transaction_that_failed(recorder: LedgerRecorder):
    assert recorder.insert_events([stored("stock/main/A", 1)]) == [1]
    with pytest.raises(IntegrityError):
        recorder.insert_events([stored("stock/main/A", 2), stored("stock/main/A", 1)])

    assert recorder.insert_events([stored("stock/main/A", 2), stored("stock/main/B", 1)]) == [2, 3]


def test_the_library_reads_what_the_ledger_wrote(ledger: Ledger, recorder: LedgerRecorder):
    ledger.handle(PutFungible(sku="A", amount_in_stock=2))

    assert [event.topic for event in recorder.select_events("stock/main/A")] == ["StockAdded.v1"]
    assert [n.id for n in recorder.select_notifications(1, 10)] == [1, 2]
    assert recorder.max_notification_id() == 2


def test_a_failure_on_our_side_leaves_nothing_behind(recorder: LedgerRecorder, conn: Connection):
    broken = StoredEvent("stock/main/A", 2, "StockAdded.v1", object())

    with pytest.raises(TypeError, match="bytes-like"):
        recorder.insert_events([stored("stock/main/A", 1), broken])

    assert read(conn, 0) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stored_events SET topic = 'x'",
        "DELETE FROM stored_events",
        "TRUNCATE stored_events",
    ],
)
def test_the_log_cannot_be_changed(ledger: Ledger, conn: Connection, statement: str):
    ledger.handle(PutFungible(sku="A"))

    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        conn.execute(statement)


def test_time_never_runs_backwards_along_the_log(ledger: Ledger, conn: Connection):
    ledger.handle(PutFungible(sku="A"))
    (first,) = read(conn, 0)
    ahead = first.recorded_at + timedelta(hours=1)
    conn.execute("ALTER TABLE stored_events DISABLE TRIGGER ALL")
    conn.execute("UPDATE stored_events SET recorded_at = %s", [ahead])  # as if the clock had been set back since

    ledger.handle(AddStock(sku="A", quantity=1))

    assert [entry.recorded_at for entry in read(conn, 0)] == [ahead, ahead]


def test_a_reader_waits_for_nobody_and_misses_nothing(postgres_url: str, schema: str, conn: Connection):
    """Writers race on a few SKUs while a reader tails the log: it must see every position, in order."""
    ledgers = [Ledger(postgres_url, schema, ROOMS, InlineReadModels()) for _ in range(4)]
    for sku in "ABC":
        ledgers[0].handle(PutFungible(sku=sku, amount_in_stock=5))
    done = threading.Event()
    seen: list[Entry] = []

    def tail() -> None:
        with connect(postgres_url, schema) as reader:
            while True:
                finished = done.is_set()
                entries = read(reader, seen[-1].position if seen else 0, 7)
                seen.extend(entries)
                if finished and not entries:
                    return

    def write(ledger: Ledger, number: int) -> None:
        for turn in range(40):
            sku = "ABC"[(turn + number) % 3]
            with contextlib.suppress(LedgerError):
                ledger.handle((AddStock if turn % 2 else RemoveStock)(sku=sku, quantity=1))

    reader = threading.Thread(target=tail)
    reader.start()
    writers = [threading.Thread(target=write, args=(ledgers[n % 4], n)) for n in range(12)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    for ledger in ledgers:
        ledger.close()

    assert [entry.position for entry in seen] == list(range(1, len(seen) + 1))
    assert seen == read(conn, 0)
    assert len(seen) > 400


def test_without_the_lock_a_reader_would_miss_entries(postgres_url: str, schema: str, recorder: LedgerRecorder):
    """The gap that the lock prevents: a later writer must not commit a later position first."""
    slow, quick = connect(postgres_url, schema), connect(postgres_url, schema)
    with slow, quick:
        slow.execute("BEGIN")
        recorder.adapt(slow)
        for statement in recorder.lock_table_statements:
            slow.execute(statement)
        quick.execute("SET lock_timeout = '200ms'")
        quick.execute("BEGIN")

        with pytest.raises(psycopg.errors.LockNotAvailable):
            quick.execute(recorder.lock_table_statements[1])
