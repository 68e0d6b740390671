"""The answer to a request that was carried out before, made again from the log: the same, whatever came after."""

import msgspec
from msgspec import structs

from ledger.commands import Command
from ledger.outcome import Outcome
from ledger.room import Rooms, Rule
from ledger.state import Keys
from ledger.store import point_in_time
from ledger.store.connection import BoundedConnection
from ledger.store.idempotency import Kept
from ledger.unit_of_work import UnitOfWork


def replayed(conn: BoundedConnection, rooms: Rooms, command: Command, kept: Kept) -> Outcome:
    """The outcome of the first request, of which `command` is the repeat.

    Raises BusyError where the state of then is made of so many facts that nobody waits for it.
    """
    rule = rooms.rules[type(command)]
    outcome = kept.answer
    if isinstance(outcome, bytes):
        outcome = msgspec.json.decode(outcome, type=rule.told)
    if outcome is None:
        outcome = _made_again(conn, rooms, rule, command, kept)
    return structs.replace(outcome, replayed=True)


def _made_again(conn: BoundedConnection, rooms: Rooms, rule: Rule, command: Command, kept: Kept) -> Outcome:
    entries = point_in_time.entries(conn, kept.position - kept.recorded, kept.position)
    first = rule.as_first(command, entries)
    keys = Keys()
    (rule.outcome_needs or rule.needs)(first, keys)
    work = UnitOfWork(point_in_time.LONG_AGO, kept.position, rooms.states)
    for kind, wanted in keys:
        for key in wanted:
            work[kind][key] = point_in_time.state(conn, kind, key, kept.position)
    return rule.outcome(work, first)
