"""The answer to a COMMIT is lost: the caller is told the truth or nothing, and the log has it once or not at all."""

import threading
from collections.abc import Iterator

import psycopg
import pytest

from ledger.stock.commands import AddStock
from tests.chaos.callers import SKUS, STOCK, Load
from tests.chaos.calls import call_of
from tests.chaos.conftest import Check
from tests.chaos.notes import Attempt, Note
from tests.chaos.proxy import COMMITTER, Deed, Proxy
from tests.chaos.service import wait_until
from tests.chaos.wire import Direct

ADD = call_of(AddStock(sku=SKUS[0], quantity=1))
CUTS: list[Deed] = ["cut before", "cut after"]

END_IN_COMMIT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = %s AND state = 'active' AND query = 'COMMIT'
"""


@pytest.fixture
def slow_commits(postgres_url: str) -> Iterator[None]:
    """Each COMMIT takes a tenth of a second, on connections that are opened from now on."""
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        for setting in ("commit_delay = 100000", "commit_siblings = 0"):
            conn.execute(f"ALTER ROLE stockledger SET {setting}")
        yield
        for setting in ("commit_delay", "commit_siblings"):
            conn.execute(f"ALTER ROLE stockledger RESET {setting}")


def on_hand(attempt: Attempt) -> int:
    return attempt.body["amount_in_stock"]


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("deed", CUTS)
def test_a_lost_commit_is_found_out_and_acknowledged(
    proxy: Proxy, direct: Direct, check: Check, deed: Deed, key: str | None
):
    trap = proxy.trap(deed)

    answer = direct.send(ADD, key)

    assert trap.sprung.is_set()
    assert (answer.status, on_hand(answer)) == (200, STOCK + 1)
    assert check([Note(0, ADD, key, [answer])]) == []


@pytest.mark.parametrize("deed", CUTS)
def test_the_answers_of_many_callers_are_found_out_together(proxy: Proxy, direct: Direct, check: Check, deed: Deed):
    trap = proxy.trap(deed)
    notes = [Note(number, ADD) for number in range(30)]
    callers = [threading.Thread(target=lambda n=note: n.attempts.append(direct.send(ADD))) for note in notes]

    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert trap.sprung.is_set()
    assert sorted(on_hand(note.attempts[0]) for note in notes) == list(range(STOCK + 1, STOCK + 31))
    assert check(notes) == []


@pytest.mark.parametrize("deed", CUTS)
def test_while_it_cannot_be_found_out_the_caller_is_told_so_and_the_key_gives_the_truth(
    proxy: Proxy, direct: Direct, check: Check, deed: Deed
):
    proxy.trap(deed, then=proxy.refuse)
    note = Note(0, ADD, "k")

    note.attempts.append(direct.send(ADD, "k"))
    proxy.come_back()
    while note.word == "unknown" and len(note.attempts) < 10:
        note.attempts.append(direct.send(ADD, "k"))

    assert note.attempts[0].slug == "outcome-unknown"
    assert on_hand(note.attempts[-1]) == STOCK + 1
    assert {attempt.status for attempt in note.attempts} == {200, 503}
    assert check([note]) == []


@pytest.mark.parametrize("deed", CUTS)
def test_without_a_key_an_unknown_outcome_is_recorded_at_most_once(
    proxy: Proxy, direct: Direct, check: Check, deed: Deed
):
    proxy.trap(deed, then=proxy.refuse)

    unknown = Note(0, ADD, None, [direct.send(ADD)])
    proxy.come_back()
    later = Note(1, ADD, None, [direct.send(ADD)])

    assert unknown.attempts[0].slug == "outcome-unknown"
    assert later.word == "acknowledged"
    assert on_hand(later.attempts[0]) in (STOCK + 1, STOCK + 2)
    assert check([unknown, later]) == []


def test_a_session_that_is_ended_in_its_commit_does_not_pass_for_one_that_recorded_nothing(
    postgres_url: str, proxy: Proxy, direct: Direct, check: Check, slow_commits: None
):
    proxy.cut_all()  # The next connection is one with slow commits.
    note = Note(0, ADD)
    caller = threading.Thread(target=lambda: note.attempts.append(direct.send(ADD)))

    with psycopg.connect(postgres_url, autocommit=True) as conn:
        caller.start()
        wait_until(lambda: conn.execute(END_IN_COMMIT, [COMMITTER]).rowcount == 1, 5, "a commit was met", 0.001)
    caller.join()

    assert check([note]) == []
    assert note.attempts[0].status == 200


@pytest.mark.parametrize("deed", CUTS)
def test_a_mix_of_commands_loses_and_repeats_nothing_when_commits_are_lost_again_and_again(
    proxy: Proxy, direct: Direct, check: Check, deed: Deed
):
    with Load(lambda: direct, callers=8, seed=deed) as load:
        for _ in range(5):
            assert proxy.trap(deed).sprung.wait(5)

    assert {attempt.status for attempt in load.attempts} <= {200, 201, 404, 409, 422, 503}
    assert check(load.notes, load.seen) == []
