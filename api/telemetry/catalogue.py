"""Every metric that the service exposes: its name, kind, labels, and what it says."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from ledger.engine.counters import SECONDS, SIZES


class Metric(NamedTuple):
    """`bounds` of a histogram's buckets. A counter's name ends in _total."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    bounds: Sequence[float] = ()


def _counter(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"stockledger_{name}_total", "counter", help, labels)


def _gauge(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"stockledger_{name}", "gauge", help, labels)


def _histogram(name: str, bounds: Sequence[float], help: str, *labels: str) -> Metric:
    return Metric(f"stockledger_{name}", "histogram", help, labels, bounds)


# Requests, by the HTTP processes together.
REQUESTS = _counter("http_requests", "Requests answered, by route template.", "method", "route", "status")
REQUEST_SECONDS = _histogram(
    "http_request_duration_seconds",
    SECONDS,
    "Time from a request's arrival to the start of its answer.",
    "method",
    "route",
)
PROBLEMS = _counter("http_problems", "Requests answered with a problem; busy ones were shed under load.", "problem")

# Commands and transactions, by all processes together.
COMMANDS = _counter(
    "commands", "Commands by what their caller was told: recorded, replayed, or a problem.", "command", "outcome"
)
COMMAND_WAIT = _histogram(
    "command_wait_seconds", SECONDS, "How long the first command of each transaction waited for it."
)
TRANSACTION_COMMANDS = _histogram("transaction_commands", SIZES, "Commands in a transaction.")
TRANSACTION_SECONDS = _histogram(
    "transaction_seconds", SECONDS, "A transaction from its first statement to its end, waiting for the lock included."
)
COMMIT_SECONDS = _histogram("commit_seconds", SECONDS, "The round trip that appends to the log and commits.")
LOG_LINES_DROPPED = _counter("log_lines_dropped", "Log lines that nobody could write in time, or that were too many.")

# Each process.
STARTS = _counter("process_starts", "Starts of a process since the service's own.", "process")
CPU = _counter("process_cpu_seconds", "Processor time of the process that runs now.", "process")
STARTED = _gauge("process_start_time_seconds", "When the process that runs now was started (Unix time).", "process")
MEMORY = _gauge("process_resident_memory_bytes", "Resident memory.", "process")
FILES = _gauge("process_open_fds", "Open file descriptors.", "process")
THREADS = _gauge("process_threads", "Threads.", "process")
COMMANDS_WAITING = _gauge("commands_waiting", "Commands that wait for a transaction.", "process")
COMMITTER_WORKING = _gauge(
    "committer_working_seconds", "How long the transaction at work has been at it; 0 when none is.", "process"
)
LOOKUPS_WAITING = _gauge("lookups_waiting", "Look-ups of products that wait for a query.", "process")
CARRIED_WAITING = _gauge("requests_carried_waiting", "Requests in the event loop that wait for an answer.", "process")
REQUESTS_WAITING = _gauge("requests_waiting", "Requests that wait for a thread.", "process")
CONNECTIONS = _gauge("http_connections", "Open connections of clients.", "process")
READERS = _gauge("reader_connections", "Database connections for reading: in_use or idle.", "process", "state")
READERS_WAITING = _gauge("readers_waiting", "Requests that wait for a database connection for reading.", "process")

# What the database says, asked when the metrics are.
BUILD = _gauge("build_info", "Always 1; the version is a label.", "version")
DATABASE_UP = _gauge("database_up", "Whether the database answers, migrated: without it the gauges below are missing.")
LOG_POSITION = _gauge("log_position", "The last position of the log.")
MODEL_POSITION = _gauge("read_model_position", "The log position up to which a following read model is.", "model")
MODEL_LAG = _gauge("read_model_lag_events", "Events of the log that are not in a following read model yet.", "model")
MODEL_LAG_SECONDS = _gauge("read_model_lag_seconds", "How long the oldest of those has been in the log.", "model")
MODEL_STOPPED = _gauge("read_model_stopped", "1 while an event that it cannot apply stops the read model.", "model")
OVERDUE = _gauge("expiry_overdue", "Reservations that are over but not written down as such, counted to a limit.")
OVERDUE_SECONDS = _gauge("expiry_lag_seconds", "How long the longest of those has been over.")

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
