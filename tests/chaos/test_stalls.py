"""The network, or a process behind it, stops without a word: nobody waits for ever, and nobody holds up the others."""

import threading
import time

import pytest
from msgspec import structs

from ledger.engine.ledger import Ledger
from ledger.errors import DefectError, LedgerError
from ledger.facts import Fact
from ledger.rooms import ROOMS
from ledger.stock.commands import AddStock, RemoveStock
from ledger.store.connection import Connection
from ledger.unit_of_work import UnitOfWork
from tests.chaos.callers import ITEMS, SKUS, Load
from tests.chaos.calls import call_of, fungible, item, look
from tests.chaos.conftest import Check
from tests.chaos.notes import Note
from tests.chaos.proxy import BOTH, Direction, Proxy
from tests.chaos.service import wait_until
from tests.chaos.wire import Direct

ANSWER_SECONDS = 2.5
STALL_SECONDS = 3.5
RECOVERY_SECONDS = 3.0
# The limit on a transaction of the committer, and the time that the others' next attempt takes.
STUCK_SECONDS = 8.0

LOCKED = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"
ADD = AddStock(sku=SKUS[0], quantity=1)


@pytest.mark.parametrize("directions", [BOTH, BOTH[1:]], ids=["both ways", "half open"])
def test_while_the_network_stalls_every_request_is_answered_in_time_and_afterwards_all_is_well(
    proxy: Proxy, direct: Direct, check: Check, directions: tuple[Direction, ...]
):
    with Load(lambda: direct, callers=8, seed=1) as load:
        time.sleep(0.3)
        proxy.stall(*directions)
        stalled = time.monotonic()
        looks = [direct.send(look(path)) for path in (fungible(SKUS[0]), item(*ITEMS[0]))]
        time.sleep(max(0.0, stalled + STALL_SECONDS - time.monotonic()))
        went_on = time.monotonic()
        proxy.go_on()
        wait_until(lambda: load.has_worked_since(went_on), RECOVERY_SECONDS, "a request is carried out")
        time.sleep(0.5)

    during = [attempt for attempt in load.attempts if stalled + 0.1 < (attempt.answered or 0) < went_on]
    assert max(attempt.seconds or 0 for attempt in [*looks, *load.attempts]) < ANSWER_SECONDS
    assert {attempt.status for attempt in during} == {503}
    assert all(attempt.retry_after for attempt in load.attempts if attempt.status == 503)
    assert {look.slug for look in [*looks, *load.looks] if look.status == 503} <= {"busy", "database-away"}
    load.settle()
    assert check(load.notes, load.seen) == []


def test_a_connection_that_falls_silent_while_it_holds_the_lock_does_not_stop_the_others_for_long(
    proxy: Proxy, direct: Direct, check: Check, conn: Connection, ledger: Ledger
):
    trap = proxy.trap("hold after", "INSERT INTO")
    note = Note(0, call_of(ADD))
    caller = threading.Thread(target=lambda: note.attempts.append(direct.send(note.call)))
    caller.start()
    assert trap.sprung.wait(2)
    wait_until(lambda: conn.execute(LOCKED).fetchone() is not None, 2, "the lock is held")

    wait_until(lambda: _adds(ledger), STUCK_SECONDS, "another process can write")
    trap.release()
    caller.join()

    assert note.attempts[0].seconds < ANSWER_SECONDS
    assert direct.send(call_of(ADD)).word == "acknowledged"
    assert check([note]) == []


def test_a_command_that_meets_a_defect_does_not_stop_the_others(
    ledger_behind_proxy: Ledger, ledger: Ledger, stocked: list[Note], monkeypatch: pytest.MonkeyPatch
):
    def broken_rule(_work: UnitOfWork, _command: RemoveStock) -> list[Fact]:
        raise ZeroDivisionError

    broken = structs.replace(ROOMS.rules[RemoveStock], decide=broken_rule)
    monkeypatch.setitem(ROOMS.rules, RemoveStock, broken)
    with pytest.raises(DefectError):
        ledger_behind_proxy.handle(RemoveStock(sku=SKUS[0], quantity=1))

    assert _adds(ledger)


def _adds(ledger: Ledger) -> bool:
    try:
        ledger.handle(ADD)
    except LedgerError:
        return False
    return True
