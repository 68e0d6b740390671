"""The database is away: every request is told so in time, and all is well again by itself when it is back."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger.engine.committer import MAX_BATCH_COMMANDS as MAX_BATCH
from ledger.engine.committer import MAX_QUEUED_COMMANDS as MAX_QUEUED
from ledger.engine.ledger import Ledger
from ledger.errors import BusyError, LedgerError, OutcomeUnknownError
from ledger.stock.commands import AddStock
from ledger.store.embedded.server import EmbeddedPostgres
from tests.chaos.arena import end_server
from tests.chaos.callers import SKUS, STOCK, Load
from tests.chaos.calls import call_of, fungible, look
from tests.chaos.conftest import Check
from tests.chaos.notes import Note
from tests.chaos.proxy import Proxy
from tests.chaos.service import wait_until
from tests.chaos.wire import Direct

ANSWER_SECONDS = 2.5
RECOVERY_SECONDS = 5.0

ADD = AddStock(sku=SKUS[0], quantity=1)
LOOK, READY = look(fungible(SKUS[0])), look("/health/ready")


def test_while_the_database_takes_no_connection_everything_is_answered_503_in_time(
    proxy: Proxy, direct: Direct, check: Check
):
    proxy.go_away()
    with ThreadPoolExecutor(12) as callers:
        answers = list(callers.map(direct.send, [LOOK, READY, call_of(ADD)] * 4))
    proxy.come_back()

    for call in (LOOK, READY, call_of(ADD)):
        wait_until(lambda c=call: direct.send(c).status == 200, RECOVERY_SECONDS, f"{call.path} works again")

    assert {(answer.status, answer.retry_after) for answer in answers} == {(503, "1")}
    assert max(answer.seconds or 0 for answer in answers) < ANSWER_SECONDS
    assert check([Note(0, call_of(ADD), None, [answer]) for answer in answers]) == []


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT], ids=["immediately", "fast"])
def test_a_database_that_is_shut_down_under_load_and_started_again_loses_and_repeats_nothing(
    postgres: EmbeddedPostgres, direct: Direct, check: Check, number: signal.Signals
):
    with Load(lambda: direct, callers=8, seed=number) as load:
        time.sleep(0.5)
        end_server(postgres, number)
        time.sleep(0.5)
        assert postgres.restart_if_dead()
        started = time.monotonic()
        wait_until(lambda: load.has_worked_since(started), RECOVERY_SECONDS, "a request is carried out")
        time.sleep(0.5)

    assert max(attempt.seconds or 0 for attempt in load.attempts) < ANSWER_SECONDS
    load.settle()
    assert check(load.notes, load.seen) == []


def test_what_waits_for_a_database_that_does_not_answer_is_bounded(
    proxy: Proxy, ledger_behind_proxy: Ledger, stocked: list[Note]
):
    proxy.stall()
    with ThreadPoolExecutor(8) as callers:
        taken = callers.submit(_refusal, ledger_behind_proxy)
        time.sleep(0.2)
        waiting = [callers.submit(_refusal, ledger_behind_proxy) for _ in range(MAX_QUEUED // MAX_BATCH)]
        time.sleep(0.2)
        refused_at_once = [callers.submit(_refusal, ledger_behind_proxy) for _ in range(2)]
        time.sleep(0.2)

        assert all(refusal.done() and isinstance(refusal.result(), BusyError) for refusal in refused_at_once)
        assert not any(refusal.done() for refusal in (taken, *waiting))
    proxy.go_on()

    assert isinstance(taken.result(), OutcomeUnknownError)
    assert all(isinstance(refusal.result(), BusyError) for refusal in waiting)
    wait_until(lambda: _refusal(ledger_behind_proxy) is None, RECOVERY_SECONDS, "commands are carried out again")
    outcome = ledger_behind_proxy.handle(ADD)
    assert outcome.stock is not None
    assert outcome.stock.on_hand in (STOCK + MAX_BATCH + 1, STOCK + 2 * MAX_BATCH + 1)


def _refusal(ledger: Ledger) -> LedgerError | None:
    """What a thousand commands at once are told."""
    try:
        ledger.handle_many([ADD] * MAX_BATCH)
    except LedgerError as error:
        return error
    return None
