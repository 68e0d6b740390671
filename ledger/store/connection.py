"""Connections to PostgreSQL as this service uses them: one schema, short limits, nothing left to hang."""

import hashlib
import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict

CONNECT_TIMEOUT_SECONDS = 2
LOCK_TIMEOUT_MILLISECONDS = 1_500
STATEMENT_TIMEOUT_MILLISECONDS = 30_000
# A transaction's statements follow each other without anybody thinking in between; one that pauses is stuck.
IDLE_IN_TRANSACTION_MILLISECONDS = 3_000
# A transaction of the committer, whose callers have given up long before. A client that falls silent in the middle of
# a round trip is not idle to the server: nothing else takes the log's lock from it.
TRANSACTION_MILLISECONDS = 5_000
TRANSACTION_LIMIT_SINCE = 170_000  # PostgreSQL's version; before, it waits until TCP gives the client up

# What a caller is made to wait for an answer of the database that does not come, and what the committer is: its
# statements wait for a lock first.
READ_SECONDS = 1.8
WRITE_SECONDS = 4.0

Connection = psycopg.Connection[tuple[Any, ...]]
T = TypeVar("T")


class NoAnswerError(psycopg.OperationalError):
    """The database took too long to answer, and the connection was closed: what it did meanwhile is not known."""


class BoundedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection on which nothing waits for ever.

    The server's own limits do not help when the server, or the network before it, has stopped without a word.
    """

    answer_seconds: float | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Statements that the server has prepared for `roundtrip`, by their text.
        self.statements: dict[str, bytes] = {}
        # What `roundtrip` has sent and not waited for: answers to come, and statements among them to be prepared.
        self.owed: list[Any] = []
        self.preparing: dict[str, bytes] = {}
        self._names = 0

    def new_statement_name(self) -> bytes:
        self._names += 1
        return b"ledger_%d" % self._names

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        started = time.monotonic()
        limit = self.answer_seconds if timeout is None else timeout
        try:
            return super().wait(gen, interval, limit)
        except psycopg.OperationalError as error:
            if limit is None or time.monotonic() - started < limit:
                raise
            self.close()
            raise NoAnswerError("the database did not answer in time") from error


def parameters(url: str, schema: str, application_name: str) -> dict[str, Any]:
    """Connection parameters for psycopg: those of `url`, with the schema as search path and limits on every wait."""
    given: dict[str, Any] = dict(conninfo_to_dict(url))
    options = [
        given.get("options") or "",
        f"-c search_path={schema}",
        f"-c lock_timeout={LOCK_TIMEOUT_MILLISECONDS}",
        f"-c statement_timeout={STATEMENT_TIMEOUT_MILLISECONDS}",
        f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MILLISECONDS}",
        "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3",
        "-c timezone=UTC",
    ]
    limits = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "keepalives_idle": 5,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "tcp_user_timeout": 5_000,
    }
    named = {"application_name": application_name, "options": " ".join(filter(None, options))}
    return {**limits, **given, **named}


def connect(
    url: str, schema: str, application_name: str = "stockledger", *, answer_seconds: float | None = None
) -> BoundedConnection:
    """Open a connection in autocommit mode that prepares every statement at its first use.

    `answer_seconds` bounds each wait for an answer (NoAnswerError), and with it the server limits each transaction;
    without it, long statements may take their time.
    Raises psycopg.OperationalError when the database cannot be reached within 2 s.
    """
    connection = BoundedConnection.connect(
        **parameters(url, schema, application_name), autocommit=True, prepare_threshold=0
    )
    connection.answer_seconds = answer_seconds
    if answer_seconds is not None and connection.info.server_version >= TRANSACTION_LIMIT_SINCE:
        try:
            connection.execute(f"SET transaction_timeout = {TRANSACTION_MILLISECONDS}".encode(), prepare=False)
        except BaseException:
            connection.close()
            raise
    return connection


def lock_key(schema: str, purpose: str) -> int:
    """The key (signed 64 bit) of an advisory lock; such locks are per database, so the schema is in it."""
    digest = hashlib.blake2b(f"stockledger/{schema}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
