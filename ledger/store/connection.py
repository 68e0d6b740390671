"""Connections to PostgreSQL as this service uses them: one schema, short limits, nothing left to hang."""

import hashlib
import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import Diagnostic
from psycopg.rows import tuple_row

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
    # In a wait for standbys (durability.py): PostgreSQL then says success, and tells by a notice.
    was_cut_off = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Statements that the server has prepared for `roundtrip`, by their text.
        self.statements: dict[str, bytes] = {}
        # What `roundtrip` has sent and not waited for: answers to come, and statements among them to be prepared.
        self.owed: list[Any] = []
        self.preparing: dict[str, bytes] = {}
        self._names = 0

    def heed(self, notice: Diagnostic) -> None:
        """By the function that tells it: its words depend on the server's language."""
        if notice.source_function == "SyncRepWaitForLSN":
            self.was_cut_off = True

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


class UnfitError(psycopg.OperationalError):
    """The database, or a pooler before it, does not do what this service relies on; the text says what, in one line."""


# Marks a URL whose connections are only to read. A setting of our own, since PostgreSQL's own would have libpq take a
# primary for a standby where the URL asks for `target_session_attrs`.
READ_ONLY_OPTION = "-c stockledger.read_only=on"

# What the code relies on, whatever the environment, the database, the role or the server say; as the server writes it.
# How text and times are written and read, what a statement means, where names are found, what a transaction is.
_STATED = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "xmloption": "content",
    # An error rather than fewer rows, should somebody have put policies on our tables.
    "row_security": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "lock_timeout": f"{LOCK_TIMEOUT_MILLISECONDS}ms",
    "statement_timeout": f"{STATEMENT_TIMEOUT_MILLISECONDS // 1000}s",
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_MILLISECONDS // 1000}s",
    "idle_session_timeout": "0",
}
# One round trip for every new connection states all of it and tells what came of it. What only a superuser may set is
# looked at alone, and a wait for the disk that somebody has turned off is turned on: what is acknowledged is durable.
_STATE = """
SELECT
    (SELECT array_agg(set_config(name, value, false) ORDER BY number)
     FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS stated (name, value, number)),
    CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END,
    current_setting('server_encoding'),
    current_setting('session_replication_role')
"""
# Of the database: text of every language has to fit.
ENCODING = "UTF8"
NOT_UTF8 = (
    "the database is encoded in {encoding}, and the ledger keeps text of every language: it needs one in UTF8, made by"
    " CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
)


def parameters(url: str, schema: str, application_name: str) -> dict[str, Any]:
    """Connection parameters for psycopg: those of `url`, with limits on every wait.

    A connection that is opened with them is to be given to `state_settings` before anything else.
    """
    given: dict[str, Any] = dict(conninfo_to_dict(url))
    options = [
        given.get("options") or "",
        f"-c search_path={schema}",
        f"-c statement_timeout={STATEMENT_TIMEOUT_MILLISECONDS}",
        f"-c lock_timeout={LOCK_TIMEOUT_MILLISECONDS}",
        "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3",
    ]
    limits = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "keepalives_idle": 5,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "tcp_user_timeout": 5_000,
    }
    named = {
        "application_name": application_name,
        "options": " ".join(filter(None, options)),
        "client_encoding": "UTF8",
    }
    return {**limits, **given, **named}


def state_settings(conn: psycopg.Connection[Any], url: str, schema: str, *, bounded: bool = False) -> None:
    """Have a new connection do what the code relies on, whatever was configured; `bounded` limits each transaction.

    Raises UnfitError where it does not: another encoding, or a pooler that keeps settings to itself. A connection that
    only reads may meet another encoding, so that what is there can be taken elsewhere.
    """
    stated = {**_STATED, "search_path": schema, "default_transaction_read_only": _read_only(url)}
    if conn.info.server_version >= TRANSACTION_LIMIT_SINCE:
        stated["transaction_timeout"] = f"{TRANSACTION_MILLISECONDS // 1000}s" if bounded else "0"
    with conn.cursor(row_factory=tuple_row) as cursor:  # the library's connections give dicts
        row = cursor.execute(_STATE, [list(stated), list(stated.values())], prepare=False).fetchone()
    found, _, encoding, replication = row or ()
    if encoding != ENCODING and stated["default_transaction_read_only"] == "off":
        raise UnfitError(NOT_UTF8.format(encoding=encoding))
    if replication != "origin":
        raise UnfitError(f"session_replication_role is {replication} for this login, so nothing would guard the log")
    wrong = [name for name, kept in zip(stated, found, strict=True) if kept != stated[name]]
    if wrong or conn.info.encoding != "utf-8":
        raise UnfitError(f"the server or a pooler does not keep settings of a session: {', '.join(wrong)}")


def _read_only(url: str) -> str:
    return "on" if READ_ONLY_OPTION in str(conninfo_to_dict(url).get("options") or "") else "off"


def connect(
    url: str, schema: str, application_name: str = "stockledger", *, answer_seconds: float | None = None
) -> BoundedConnection:
    """Open a connection in autocommit mode that prepares every statement at its first use.

    `answer_seconds` bounds each wait for an answer (NoAnswerError), and with it the server limits each transaction;
    without it, long statements may take their time.
    Raises psycopg.OperationalError when the database cannot be reached within 2 s, UnfitError among them.
    """
    connection = BoundedConnection.connect(
        **parameters(url, schema, application_name), autocommit=True, prepare_threshold=0
    )
    connection.answer_seconds = answer_seconds
    connection.add_notice_handler(connection.heed)
    try:
        state_settings(connection, url, schema, bounded=answer_seconds is not None)
    except BaseException:
        connection.close()
        raise
    return connection


def lock_key(schema: str, purpose: str) -> int:
    """The key (signed 64 bit) of an advisory lock; such locks are per database, so the schema is in it."""
    digest = hashlib.blake2b(f"stockledger/{schema}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
