"""The committer on real PostgreSQL: shared transactions, each caller's own answer, nothing lost and nothing twice."""

import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec import structs
from msgspec.structs import replace

from ledger import caller
from ledger.catalogue.errors import UnknownProductError
from ledger.catalogue.events import ProductRegistered
from ledger.commands import Command, Key, Precondition
from ledger.engine.committer import DefectError
from ledger.engine.ledger import Ledger
from ledger.errors import (
    AbandonedError,
    BusyError,
    KeyReusedError,
    LedgerError,
    OutcomeUnknownError,
    PreconditionFailedError,
)
from ledger.facts import Entry
from ledger.outcome import Outcome
from ledger.reservations.commands import Line, MakeReservation
from ledger.reservations.outcomes import MadeOutcome
from ledger.rooms import ROOMS
from ledger.stock.commands import AddStock, PutFungible, RemoveStock
from ledger.stock.errors import InsufficientStockError
from ledger.stock.events import StockAdded, StockEvent, StockReserved
from ledger.stock.outcomes import StockOutcome
from ledger.stock.rules import add_stock
from ledger.store import connection as connection_module
from ledger.store.connection import Connection, lock_key
from ledger.store.log import read
from projections.inline import TABLES, InlineReadModels

_WAITING = "SELECT pid FROM pg_locks WHERE NOT granted AND %s = ANY(pg_blocking_pids(pid))"
HASH, OTHER_HASH = b"h" * 32, b"o" * 32


def reserve(sku: str, quantity: int = 1, **more) -> MakeReservation:
    return MakeReservation(reservation_id=uuid4(), lines=(Line(sku, quantity),), ttl_seconds=600, **more)


def keyed(key: str, request_hash: bytes = HASH, actor: str = "anonymous", quantity: int = 1) -> AddStock:
    return AddStock(sku="A", quantity=quantity, key=Key(key, request_hash), actor=actor)


def result_of(ledger: Ledger, command: Command) -> Outcome | LedgerError:
    """What a caller gets: the outcome, or the error that was raised."""
    try:
        return ledger.handle(command)
    except LedgerError as error:
        return error


def everything(conn: Connection) -> dict[str, list[tuple[Any, ...]]]:
    tables = ("stored_events", "idempotency_keys", *TABLES)
    return {table: conn.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables}


def level(conn: Connection, sku: str) -> tuple[Any, ...] | None:
    """On hand and reserved."""
    return conn.execute("SELECT on_hand, reserved FROM stock_levels WHERE sku = %s", [sku]).fetchone()


def transactions(entries: Sequence[Entry]) -> int:
    """Each transaction records all its entries at one time."""
    return len({entry.recorded_at for entry in entries})


@contextmanager
def held_up(conn: Connection, schema: str) -> Iterator[Callable[[], int]]:
    """Hold the log's lock, so that a committer waits in its transaction; gives the server's process that waits.

    Every wait for the lock ends with BusyError after 1.5 s, so what is done meanwhile must be quick.
    """
    with conn.transaction():
        (own,) = conn.execute("SELECT pg_backend_pid()").fetchone()
        conn.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(schema, "log")])

        def waiting() -> int:
            until = time.monotonic() + 10
            while time.monotonic() < until:
                found = conn.execute(_WAITING, [own]).fetchone()
                if found is not None:
                    return int(found[0])
                time.sleep(0.005)
            raise AssertionError("nobody waits for the lock")

        yield waiting


def at_once(
    ledger: Ledger, conn: Connection, schema: str, first: Command, others: Sequence[Command]
) -> list[Outcome | LedgerError]:
    """Have `others` wait while the transaction of `first` goes on, so that they share the next one."""
    queued = threading.Semaphore(0)

    def call(command: Command) -> Outcome | LedgerError:
        queued.release()
        return result_of(ledger, command)

    with ThreadPoolExecutor(len(others) + 1) as callers:
        with held_up(conn, schema) as waiting:
            futures: list[Future[Outcome | LedgerError]] = [callers.submit(call, first)]
            waiting()
            futures += [callers.submit(call, command) for command in others]
            for _ in futures:
                queued.acquire()
            time.sleep(0.05)  # from saying so to being in the queue
        return [future.result() for future in futures]


# Batches


def test_commands_that_arrive_together_share_a_transaction(ledger: Ledger, conn: Connection):
    commands = [PutFungible(sku="A"), *(AddStock(sku="A", quantity=n) for n in (1, 2, 3)), PutFungible(sku="B")]

    outcomes = ledger.handle_many(commands)

    entries = read(conn, 0)
    assert [outcome.position for outcome in outcomes] == [1, 2, 3, 4, 5]
    assert [entry.position for entry in entries] == [1, 2, 3, 4, 5]
    assert transactions(entries) == 1
    assert [outcome.stock.on_hand for outcome in outcomes] == [0, 1, 3, 6, 0]


def test_callers_that_wait_share_the_next_transaction_and_get_their_own_answers(
    ledger: Ledger, conn: Connection, schema: str
):
    skus = [f"S{number:02}" for number in range(30)]
    ledger.handle_many([PutFungible(sku=sku) for sku in skus])

    results = at_once(
        ledger,
        conn,
        schema,
        AddStock(sku=skus[0], quantity=1),
        [AddStock(sku=s, quantity=int(s[1:])) for s in skus[1:]],
    )

    assert [(r.product.sku, r.stock.on_hand) for r in results] == [(s, int(s[1:]) or 1) for s in skus]
    entries = read(conn, len(skus))
    assert len(entries) == len(skus)
    assert transactions(entries) < 10  # a caller that was late may have come into a later one


def test_many_callers_on_one_sku_get_exactly_what_there_is(ledger: Ledger, conn: Connection):
    ledger.handle(PutFungible(sku="A", amount_in_stock=30))

    with ThreadPoolExecutor(16) as callers:
        results = list(callers.map(lambda _: result_of(ledger, reserve("A")), range(50)))

    won = [result for result in results if isinstance(result, Outcome)]
    lost = [result for result in results if not isinstance(result, Outcome)]
    assert sorted(result.stock.available for result in won) == list(range(30))
    assert len({result.reservation.reservation_id for result in won}) == 30
    assert Counter(type(error) for error in lost) == {InsufficientStockError: 20}
    assert {(e.shortages[0].requested, e.shortages[0].available) for e in lost} == {(1, 0)}
    assert level(conn, "A") == (30, 30)


def test_each_command_sees_the_ones_before_it(ledger: Ledger):
    results = ledger.handle_many(
        [
            AddStock(sku="A", quantity=1),
            PutFungible(sku="A", amount_in_stock=2),
            reserve("A", 2),
            reserve("A"),
            AddStock(sku="A", quantity=1),
            reserve("A"),
        ]
    )

    kinds = [UnknownProductError, StockOutcome, MadeOutcome, InsufficientStockError, StockOutcome, MadeOutcome]
    assert [type(result) for result in results] == kinds
    assert [result.position for result in results] == [0, 2, 3, 3, 4, 5]


def test_a_refused_command_records_nothing(ledger: Ledger, conn: Connection):
    ledger.handle(PutFungible(sku="A", amount_in_stock=1))
    before = everything(conn)

    refusals = [
        result_of(ledger, RemoveStock(sku="A", quantity=2)),
        result_of(ledger, reserve("A", 2, key=Key("k", HASH))),
        result_of(ledger, AddStock(sku="Z", quantity=1)),
        result_of(ledger, AddStock(sku="A", quantity=1, precondition=Precondition(frozenset({9})))),
    ]

    expected = [InsufficientStockError, InsufficientStockError, UnknownProductError, PreconditionFailedError]
    assert [type(refusal) for refusal in refusals] == expected
    assert [refusal.position for refusal in refusals] == [2] * 4
    assert everything(conn) == before


def test_a_refusal_among_others_disturbs_none_of_them(ledger: Ledger, conn: Connection):
    ledger.handle(PutFungible(sku="A", amount_in_stock=1))

    results = ledger.handle_many([reserve("A", 2), AddStock(sku="A", quantity=1), reserve("A", 2), reserve("A", 1)])

    kinds = [InsufficientStockError, StockOutcome, MadeOutcome, InsufficientStockError]
    assert [type(result) for result in results] == kinds
    assert [type(entry.event) for entry in read(conn, 2)] == [StockAdded, StockReserved]
    assert level(conn, "A") == (2, 2)


def test_all_or_nothing_is_nothing_when_one_is_refused(ledger: Ledger, conn: Connection):
    ledger.handle(PutFungible(sku="A", amount_in_stock=1))
    before = everything(conn)

    results = ledger.handle_many([keyed("k"), reserve("A", 3), AddStock(sku="A", quantity=5)], atomic=True)

    assert [type(result) for result in results] == [AbandonedError, InsufficientStockError, AbandonedError]
    assert everything(conn) == before
    assert ledger.handle(keyed("k")).replayed is False


def test_nothing_is_asked_and_nothing_answered(ledger: Ledger, conn: Connection):
    assert list(ledger.handle_many([])) == []
    assert read(conn, 0) == []


# Defects


def broken_add(work: Any, command: AddStock) -> Any:
    if command.sku == "BROKEN":
        raise RuntimeError("a defect")
    return add_stock(work, command)


def test_a_defect_fails_only_its_own_caller(
    ledger: Ledger, conn: Connection, schema: str, monkeypatch: pytest.MonkeyPatch
):
    ledger.handle_many([PutFungible(sku="A"), PutFungible(sku="BROKEN")])
    monkeypatch.setitem(ROOMS.rules, AddStock, structs.replace(ROOMS.rules[AddStock], decide=broken_add))
    others = [
        AddStock(sku="A", quantity=1),
        AddStock(sku="BROKEN", quantity=1),
        keyed("k"),
        RemoveStock(sku="A", quantity=9),
    ]

    results = at_once(ledger, conn, schema, AddStock(sku="A", quantity=1), others)

    kinds = [StockOutcome, StockOutcome, DefectError, StockOutcome, InsufficientStockError]
    assert [type(result) for result in results] == kinds
    assert level(conn, "A") == (3, 0)
    assert level(conn, "BROKEN") is None
    assert [type(entry.event) for entry in read(conn, 2)] == [StockAdded] * 3
    assert result_of(ledger, keyed("k")).replayed is True


def test_after_a_defect_the_committer_goes_on(ledger: Ledger, conn: Connection, monkeypatch: pytest.MonkeyPatch):
    ledger.handle(PutFungible(sku="BROKEN"))
    before = everything(conn)
    with monkeypatch.context() as patched:
        patched.setitem(ROOMS.rules, AddStock, structs.replace(ROOMS.rules[AddStock], decide=broken_add))
        assert type(result_of(ledger, AddStock(sku="BROKEN", quantity=1))) is DefectError
    assert everything(conn) == before

    assert ledger.handle(AddStock(sku="BROKEN", quantity=1)).stock.on_hand == 1
    assert ledger.is_alive()


# Limits


def test_more_than_the_queue_holds_is_refused_at_once(
    ledger: Ledger, conn: Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ledger._committer.batcher, "max_waiting", 2)

    with pytest.raises(BusyError):
        ledger.handle_many([PutFungible(sku=sku) for sku in "ABC"])

    assert read(conn, 0) == []
    assert len(ledger.handle_many([PutFungible(sku=sku) for sku in "AB"])) == 2
    assert ledger.handle(PutFungible(sku="C")).position == 3  # what was answered waits no longer


def test_a_transaction_takes_no_more_than_its_limit(
    ledger: Ledger, conn: Connection, schema: str, monkeypatch: pytest.MonkeyPatch
):
    ledger.handle(PutFungible(sku="A"))
    monkeypatch.setattr(ledger._committer.batcher, "max_together", 3)

    results = at_once(ledger, conn, schema, AddStock(sku="A", quantity=1), [AddStock(sku="A", quantity=1)] * 12)

    per_transaction = Counter(entry.recorded_at for entry in read(conn, 1))
    assert max(per_transaction.values()) <= 3
    assert sorted(result.stock.on_hand for result in results) == list(range(1, 14))


def test_who_gives_up_waiting_is_told_what_is_known(
    ledger: Ledger, conn: Connection, schema: str, monkeypatch: pytest.MonkeyPatch
):
    """One command is in a transaction and may be recorded yet; the one behind it never will be."""
    ledger.handle(PutFungible(sku="A"))
    monkeypatch.setattr(caller, "WAIT_SECONDS", 0.2)

    with ThreadPoolExecutor(2) as callers, held_up(conn, schema) as waiting:
        taken = callers.submit(result_of, ledger, AddStock(sku="A", quantity=1))
        waiting()
        queued = callers.submit(result_of, ledger, AddStock(sku="A", quantity=10))
        results = [taken.result(), queued.result()]
    monkeypatch.undo()

    assert [type(result) for result in results] == [OutcomeUnknownError, BusyError]
    assert ledger.handle(AddStock(sku="A", quantity=100)).stock.on_hand in (100, 101)


def test_a_lock_that_is_not_to_be_had_means_busy(
    conn: Connection, postgres_url: str, schema: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection_module, "LOCK_TIMEOUT_MILLISECONDS", 100)
    ledger = Ledger(postgres_url, schema, ROOMS, InlineReadModels())

    with held_up(conn, schema):
        refused = result_of(ledger, PutFungible(sku="A"))
    recorded = result_of(ledger, PutFungible(sku="A"))
    ledger.close()

    assert (type(refused), type(recorded)) == (BusyError, StockOutcome)
    assert [type(entry.event) for entry in read(conn, 0)] == [ProductRegistered]


def test_closing_finishes_what_waits(conn: Connection, postgres_url: str, schema: str):
    ledger = Ledger(postgres_url, schema, ROOMS, InlineReadModels())

    with ThreadPoolExecutor(2) as callers:
        with held_up(conn, schema) as waiting:
            result = callers.submit(result_of, ledger, PutFungible(sku="A"))
            waiting()
            closing = callers.submit(ledger.close)
        closing.result()

    assert result.result().position == 1
    assert not ledger.is_alive()


# Idempotency keys


def test_a_key_within_one_transaction_counts_once(ledger: Ledger, conn: Connection):
    ledger.handle(PutFungible(sku="A"))

    first, again, other = ledger.handle_many([keyed("k"), keyed("k"), keyed("k", OTHER_HASH)])

    assert (first.replayed, first.stock.on_hand) == (False, 1)
    assert again == replace(first, replayed=True)
    assert type(other) is KeyReusedError
    assert level(conn, "A") == (1, 0)


def test_a_key_counts_once_for_all_processes(ledger: Ledger, conn: Connection, postgres_url: str, schema: str):
    ledger.handle(PutFungible(sku="A", amount_in_stock=5))
    command = reserve("A", 2, key=Key("k", HASH), owner="ann", reference="cart 7")
    first = ledger.handle(command)

    second = Ledger(postgres_url, schema, ROOMS, InlineReadModels())
    again = result_of(second, replace(command, reservation_id=UUID(int=1)))
    other = result_of(second, replace(command, key=Key("k", OTHER_HASH)))
    second.close()

    assert again == replace(first, replayed=True)
    assert type(other) is KeyReusedError
    assert len(read(conn, 0)) == 3


def test_callers_who_repeat_themselves_at_once_all_get_the_one_outcome(ledger: Ledger, conn: Connection):
    ledger.handle(PutFungible(sku="A"))

    with ThreadPoolExecutor(8) as callers:
        results = list(callers.map(lambda _: result_of(ledger, keyed("k")), range(24)))

    assert Counter(result.replayed for result in results) == {False: 1, True: 23}
    assert len({(result.position, result.stock.on_hand) for result in results}) == 1
    assert level(conn, "A") == (1, 0)


def test_keys_of_different_actors_never_meet(ledger: Ledger, conn: Connection):
    ledger.handle(PutFungible(sku="A"))

    results = ledger.handle_many([keyed("k"), keyed("k", OTHER_HASH, actor="ann")])

    assert [result.replayed for result in results] == [False, False]
    assert level(conn, "A") == (2, 0)


def test_an_outcome_without_events_is_kept_too(ledger: Ledger):
    ledger.handle(PutFungible(sku="A"))
    unchanged = PutFungible(sku="A", key=Key("k", HASH))
    first = ledger.handle(unchanged)
    ledger.handle(AddStock(sku="A", quantity=1))

    assert ledger.handle(unchanged) == replace(first, replayed=True)


def test_a_refusal_is_not_kept(ledger: Ledger):
    ledger.handle(PutFungible(sku="A"))
    command = replace(reserve("A"), key=Key("k", HASH))
    assert type(result_of(ledger, command)) is InsufficientStockError
    ledger.handle(AddStock(sku="A", quantity=1))

    assert ledger.handle(command).replayed is False


# Lost connections


def test_a_connection_that_dies_between_commands_is_replaced_unnoticed(ledger: Ledger, conn: Connection, schema: str):
    ledger.handle(PutFungible(sku="A"))
    with ThreadPoolExecutor(1) as caller:
        with held_up(conn, schema) as waiting:
            result = caller.submit(result_of, ledger, AddStock(sku="A", quantity=1))
            backend = waiting()
        result.result()
    terminate(conn, backend)

    assert ledger.handle(AddStock(sku="A", quantity=1)).stock.on_hand == 2
    assert [type(entry.event) for entry in read(conn, 1)] == [StockAdded] * 2


def test_a_connection_that_dies_within_a_transaction_is_replaced_and_the_command_recorded_once(
    ledger: Ledger, conn: Connection, schema: str
):
    ledger.handle(PutFungible(sku="A"))

    with ThreadPoolExecutor(1) as caller, held_up(conn, schema) as waiting:
        result = caller.submit(result_of, ledger, AddStock(sku="A", quantity=1))
        terminate(conn, waiting())

    assert result.result().stock.on_hand == 1
    assert len(read(conn, 0)) == 2


def terminate(conn: Connection, backend: int) -> None:
    assert conn.execute("SELECT pg_terminate_backend(%s, 5000)", [backend]).fetchone() == (True,)


# Other processes


def buy(url: str, schema: str, start: Any, won: Any, attempts: int) -> None:
    """Another process: reserve one at a time with several threads, once `start` lets everyone go."""
    ledger = Ledger(url, schema, ROOMS, InlineReadModels())
    result_of(ledger, PutFungible(sku="warm-up"))
    start.wait(30)
    with ThreadPoolExecutor(4) as callers:
        results = list(callers.map(lambda _: result_of(ledger, reserve("A")), range(attempts)))
    won.put([(type(r).__name__, r.stock.available if isinstance(r, Outcome) else r.members) for r in results])
    ledger.close()


def test_processes_that_race_on_one_sku_never_oversell(
    ledger: Ledger, conn: Connection, postgres_url: str, schema: str
):
    ledger.handle(PutFungible(sku="A", amount_in_stock=50))
    spawn = multiprocessing.get_context("spawn")
    start, won = spawn.Barrier(3), spawn.Queue()
    arguments = (postgres_url, schema, start, won, 40)
    processes = [spawn.Process(target=buy, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    start.wait(30)
    with ThreadPoolExecutor(4) as callers:
        ours = list(callers.map(lambda _: result_of(ledger, AddStock(sku="A", quantity=1)), range(10)))
    results = [result for _ in processes for result in won.get(timeout=30)]
    for process in processes:
        process.join(30)

    assert [process.exitcode for process in processes] == [0, 0]
    assert {type(result) for result in ours} == {StockOutcome}
    counted = Counter(name for name, _ in results)
    assert counted["MadeOutcome"] + counted["InsufficientStockError"] == 80
    assert 50 <= counted["MadeOutcome"] <= 60
    assert {(m["requested"], m["available"]) for name, m in results if name != "MadeOutcome"} <= {(1, 0)}
    assert level(conn, "A") == (60, counted["MadeOutcome"])
    history = [entry for entry in read(conn, 0) if entry.stream == "stock/main/A"]
    assert [entry.version for entry in history] == list(range(1, len(history) + 1))
    assert [entry.event for entry in history if not in_order(history, entry)] == []


def in_order(history: Sequence[Entry], entry: Entry) -> bool:
    """Whether a stock event follows from the balance before it, and oversells nothing."""
    event = entry.event
    assert isinstance(event, StockEvent)
    before = history[entry.version - 2].event if entry.version > 1 else None
    on_hand, reserved = (before.on_hand, before.reserved) if isinstance(before, StockEvent) else (0, 0)
    if isinstance(event, StockAdded):
        on_hand += event.quantity
    else:
        reserved += event.quantity
    return (event.on_hand, event.reserved) == (on_hand, reserved) and reserved <= on_hand


# Time


def test_time_is_the_databases(ledger: Ledger, conn: Connection):
    """An hour ahead of this machine, as far as the log knows."""
    ledger.handle(PutFungible(sku="A", amount_in_stock=1))
    conn.execute("ALTER TABLE stored_events DISABLE TRIGGER ALL")
    conn.execute("UPDATE stored_events SET recorded_at = recorded_at + interval '1 hour'")
    ahead = read(conn, 1)[0].recorded_at

    outcome = ledger.handle(reserve("A"))

    assert (outcome.stock.updated_at, outcome.reservation.created_at) == (ahead, ahead)
    assert outcome.reservation.expires_at == ahead + timedelta(seconds=600)


def test_time_lies_between_what_the_database_says_before_and_after(ledger: Ledger, conn: Connection):
    (before,) = conn.execute("SELECT clock_timestamp()").fetchone()
    ledger.handle(PutFungible(sku="A"))
    (after,) = conn.execute("SELECT clock_timestamp()").fetchone()

    assert before <= read(conn, 0)[0].recorded_at <= after


def test_the_time_of_a_command_that_had_to_wait_is_when_its_turn_came(ledger: Ledger, conn: Connection, schema: str):
    with ThreadPoolExecutor(1) as caller:
        with held_up(conn, schema) as waiting:
            result = caller.submit(result_of, ledger, PutFungible(sku="A"))
            waiting()
            (freed,) = conn.execute("SELECT clock_timestamp()").fetchone()
        result.result()

    assert read(conn, 0)[0].recorded_at > freed
