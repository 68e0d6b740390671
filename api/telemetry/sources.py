"""Where the numbers of a process come from: its ledger, its reader, its server, its log."""

from typing import TYPE_CHECKING

from api.http.problems import PROBLEMS
from api.telemetry import catalogue, logs
from api.telemetry.process import Gauges, Labels, Numbers, Telemetry
from ledger.engine.counters import added
from ledger.engine.ledger import Ledger
from ledger.outcome import Outcome
from projections.reader import Reader

if TYPE_CHECKING:
    from api.server.server import Server


def observe_ledger(telemetry: Telemetry, ledger: Ledger) -> None:
    counters, process = ledger.counters, (telemetry.name,)

    def commands() -> Numbers:
        found: dict[Labels, list[float]] = {}
        for (command, kind), numbers in counters.commands.totals().items():
            labels = (command.__name__, _outcome(kind))
            found[labels] = added(found.get(labels), numbers)
        return found

    telemetry.counts(catalogue.COMMANDS, commands)
    for metric, histogram in (
        (catalogue.COMMAND_WAIT, counters.waits),
        (catalogue.TRANSACTION_COMMANDS, counters.sizes),
        (catalogue.TRANSACTION_SECONDS, counters.transactions),
        (catalogue.COMMIT_SECONDS, counters.commits),
    ):
        telemetry.counts(metric, histogram.totals)
    telemetry.gauges(
        lambda: {
            catalogue.COMMANDS_WAITING: {process: ledger.waiting},
            catalogue.COMMITTER_WORKING: {process: counters.working_seconds()},
        }
    )


def observe_reader(telemetry: Telemetry, reader: Reader) -> None:
    name = telemetry.name

    def now() -> Gauges:
        in_use, idle, waiting = reader.use()
        return {
            catalogue.READERS: {(name, "in_use"): in_use, (name, "idle"): idle},
            catalogue.READERS_WAITING: {(name,): waiting},
            catalogue.LOOKUPS_WAITING: {(name,): reader.fungibles.waiting},
        }

    telemetry.gauges(now)


def observe_server(telemetry: Telemetry, server: "Server") -> None:
    process = (telemetry.name,)

    def now() -> Gauges:
        runs_inline, queued = server.waiting()
        return {
            catalogue.CONNECTIONS: {process: len(server.active_channels)},
            catalogue.CARRIED_WAITING: {process: runs_inline},
            catalogue.REQUESTS_WAITING: {process: queued},
        }

    telemetry.gauges(now)


def log_behind(telemetry: Telemetry) -> None:
    """Have this process log from a thread of its own, and count the lines that are too many for it."""
    if (writer := logs.writer()) is not None:
        writer.write_behind()
        telemetry.counts(catalogue.LOG_LINES_DROPPED, lambda: {(): [writer.dropped]})


def _outcome(kind: type | str) -> str:
    if isinstance(kind, str):
        return kind
    if issubclass(kind, Outcome):
        return "recorded"
    return PROBLEMS[kind][1] if kind in PROBLEMS else "internal-error"
