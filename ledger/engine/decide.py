"""Deciding a command by the rule that its room brings. Pure: state in, facts out."""

from ledger.commands import Command
from ledger.outcome import Outcome
from ledger.room import Rooms
from ledger.unit_of_work import UnitOfWork


def decide(rooms: Rooms, work: UnitOfWork, command: Command) -> Outcome:
    """Record in `work` what the command makes happen; raises a LedgerError and records nothing if it is refused.

    What rooms do before any command, such as writing down holds that are over, stays even then: it is true.
    """
    for before in rooms.before:
        before(work, command)
    rule = rooms.rules[type(command)]
    work.record(rule.decide(work, command))
    return rule.outcome(work, command)
