"""Everything that is done to the service while callers are at work: one function each, which lasts and then ends.

How long each lasts comes from the seed. What a fault leaves behind is undone by `Arena.heal` at the end of a round.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random

import psycopg

from tests.chaos.arena import Arena
from tests.chaos.proxy import BOTH, COMMITTER, Deed
from tests.chaos.service import wait_until

SPRING_SECONDS = 1.0
RECOVERY_SECONDS = 20.0

_SESSIONS = """
SELECT pid FROM pg_stat_activity
WHERE application_name IN ('stockledger committer', 'stockledger reader', 'stockledger lookups')
"""
_TERMINATE = f"SELECT pg_terminate_backend(pid) FROM ({_SESSIONS}) AS sessions"
_END_IN_COMMIT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = %s AND state = 'active' AND query = 'COMMIT'
"""
_STATEMENTS = ("BEGIN", "SELECT pg_advisory_xact_lock", "INSERT INTO", "COMMIT")

Fault = Callable[[Arena, Random], None]


def cut_a_statement(arena: Arena, random: Random) -> None:
    """Most often a COMMIT."""
    deeds: list[Deed] = ["cut before", "cut after"]
    trap = arena.proxy.trap(random.choice(deeds), random.choice(("COMMIT", "COMMIT", *_STATEMENTS)))
    trap.sprung.wait(SPRING_SECONDS)


def cut_a_commit_and_stay_away(arena: Arena, random: Random) -> None:
    deeds: list[Deed] = ["cut before", "cut after"]
    trap = arena.proxy.trap(random.choice(deeds), then=arena.proxy.refuse)
    trap.sprung.wait(SPRING_SECONDS)
    time.sleep(random.choice((0.1, 1.0, 3.0, 12.0)))
    arena.proxy.come_back()


def cut_every_connection(arena: Arena, _random: Random) -> None:
    arena.proxy.cut_all()


def stall(arena: Arena, random: Random) -> None:
    """Both ways, or one."""
    arena.proxy.stall(*random.choice((BOTH, BOTH[:1], BOTH[1:])))
    time.sleep(random.choice((0.2, 1.0, 3.0, 6.0)))
    arena.proxy.go_on()


def go_away(arena: Arena, random: Random) -> None:
    arena.proxy.go_away()
    time.sleep(random.choice((0.1, 1.0, 4.0)))
    arena.proxy.come_back()


def fall_silent_in_a_transaction(arena: Arena, random: Random) -> None:
    trap = arena.proxy.trap("hold after", random.choice(_STATEMENTS))
    if trap.sprung.wait(SPRING_SECONDS):
        time.sleep(random.choice((0.2, 2.0, 6.0)))
    trap.release()


def terminate_sessions(arena: Arena, random: Random) -> None:
    arena.ask(_TERMINATE + random.choice(("", " ORDER BY random() LIMIT 1")))


def terminate_in_commit(arena: Arena, _random: Random) -> None:
    with suppress(AssertionError):  # under little load there may be none to be met
        wait_until(lambda: bool(arena.ask(_END_IN_COMMIT, COMMITTER)), SPRING_SECONDS, "a commit was met", 0.0)


def kill_a_backend(arena: Arena, _random: Random) -> None:
    """PostgreSQL then ends all others, and recovers as after a crash."""
    for (pid,) in arena.ask(_SESSIONS + " LIMIT 1"):
        os.kill(pid, signal.SIGKILL)
    wait_until(arena.is_answering, RECOVERY_SECONDS, "the database has recovered")


def restart_the_database(arena: Arena, random: Random) -> None:
    arena.end_database(random.choice((signal.SIGINT, signal.SIGQUIT)))
    time.sleep(random.choice((0.0, 1.0, 3.0)))
    arena.postgres.restart_if_dead()


def kill_a_worker(arena: Arena, random: Random) -> None:
    arena.service.signal(signal.SIGKILL, random.sample(arena.service.workers() or [0], 1))


def stop_a_worker(arena: Arena, random: Random) -> None:
    _stop(arena, arena.service.workers()[:1], random)


def kill_the_expiry_process(arena: Arena, _random: Random) -> None:
    arena.service.signal(signal.SIGKILL, arena.service.expiry())


def stop_the_expiry_processes(arena: Arena, random: Random) -> None:
    _stop(arena, [*arena.service.expiry(), arena.second_expiry.pid], random)


def _stop(arena: Arena, pids: list[int], random: Random) -> None:
    arena.service.signal(signal.SIGSTOP, pids)
    time.sleep(random.choice((0.2, 2.0, 5.0)))
    arena.service.signal(signal.SIGCONT, pids)


def kill_the_service(arena: Arena, _random: Random) -> None:
    arena.service.kill()
    arena.service.start()


def restart_the_service(arena: Arena, _random: Random) -> None:
    arena.service.stop()
    arena.service.start()


FAULTS: tuple[Fault, ...] = (
    cut_a_statement,
    cut_a_commit_and_stay_away,
    cut_every_connection,
    stall,
    go_away,
    fall_silent_in_a_transaction,
    terminate_sessions,
    terminate_in_commit,
    kill_a_backend,
    restart_the_database,
    kill_a_worker,
    stop_a_worker,
    kill_the_expiry_process,
    stop_the_expiry_processes,
    kill_the_service,
    restart_the_service,
)
# Those that say themselves that the database is away meet it away now and then.
MISSED = (psycopg.OperationalError,)
