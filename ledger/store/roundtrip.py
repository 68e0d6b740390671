"""Statements that go to the server in one packet, and whose answers come back together.

psycopg's own pipeline waits for the socket at every statement, which costs more than all the rest of a transaction
(DECISIONS.md, 14); this one sends all and waits once. It knows what the ledger's statements need and no more:
prepared statements, parameters as text, rows as tuples.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any
from uuid import UUID

import psycopg
from psycopg import pq
from psycopg.abc import PQGen
from psycopg.abc import Transformer as AnyTransformer
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.waiting import Ready, Wait

from ledger.store.connection import BoundedConnection

Row = tuple[Any, ...]
Parameter = str | int | bytes | UUID | date | None | Sequence[str] | Sequence[UUID]

# Between two elements of an array, each in quotes.
_SEPARATOR = '","'
_ENDED = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class Answer:
    """What a statement answers, once its round trip is over."""

    __slots__ = ("_result", "_transformer")

    def __init__(self, transformer: AnyTransformer) -> None:
        self._transformer = transformer
        self._result: pq.abc.PGresult | None = None

    @property
    def status(self) -> str:
        """The server's word for what was done, such as `COMMIT` or `INSERT 0 3`."""
        assert self._result is not None, "the round trip is over"
        return (self._result.command_status or b"").decode()

    def rows(self) -> list[Row]:
        assert self._result is not None, "the round trip is over"
        self._transformer.set_pgresult(self._result)
        return self._transformer.load_rows(0, self._result.ntuples, tuple)

    def set(self, result: pq.abc.PGresult) -> None:
        self._result = result


class RoundTrip:
    """Gather statements with `ask`, then `go` once. Parameters are written $1, $2, ... in the statement."""

    def __init__(self, conn: BoundedConnection) -> None:
        self._conn = conn
        self._transformer = Transformer(conn)
        self._answers: list[Answer | str] = []  # the text of a statement for the answer to its preparation
        self._sends: list[Callable[[pq.abc.PGconn], None]] = []
        self._named: dict[str, bytes] = {}

    def ask(self, statement: str, *parameters: Parameter) -> Answer:
        """Add a statement; what it answers is there after `go`."""
        name = self._name(statement)
        values = [_as_text(parameter) for parameter in parameters]
        self._sends.append(lambda pgconn: pgconn.send_query_prepared(name, values))
        answer = Answer(self._transformer)
        self._answers.append(answer)
        return answer

    def send(self) -> None:
        """Let the server begin with what was asked so far; whatever goes next on this connection waits for it too."""
        conn = self._conn
        conn.pgconn.enter_pipeline_mode()
        for send in self._sends:
            send(conn.pgconn)
        conn.pgconn.flush()  # as much as there is room for; the rest follows when we wait
        conn.owed += self._answers
        conn.preparing |= self._named
        self._sends, self._answers, self._named = [], [], {}

    def go(self) -> None:
        """Send all, wait for all; raises the error of the first statement that failed.

        Outside a transaction opened by an earlier statement they are one transaction.
        """
        self.send()
        conn = self._conn
        conn.pgconn.pipeline_sync()
        results = conn.wait(_exchange(conn.pgconn))
        conn.pgconn.exit_pipeline_mode()
        owed, preparing = conn.owed, conn.preparing
        conn.owed, conn.preparing = [], {}
        for answer, result in zip(owed, results, strict=False):
            if result.status not in _ENDED:
                raise error_from_result(result)
            if isinstance(answer, str):
                conn.statements[answer] = preparing[answer]
            else:
                answer.set(result)

    def _name(self, statement: str) -> bytes:
        """The name under which the server knows the statement; prepared on the way if it does not yet."""
        for known in (self._conn.statements, self._conn.preparing, self._named):
            if statement in known:
                return known[statement]
        name = self._named[statement] = self._conn.new_statement_name()
        self._sends.append(lambda pgconn: pgconn.send_prepare(name, statement.encode()))
        self._answers.append(statement)
        return name


def ask_one(conn: BoundedConnection, statement: str, *parameters: Parameter) -> list[Row]:
    """A round trip of one statement; returns its rows."""
    trip = RoundTrip(conn)
    answer = trip.ask(statement, *parameters)
    trip.go()
    return answer.rows()


@contextmanager
def transaction(conn: BoundedConnection, begin: str = "BEGIN") -> Iterator[None]:
    """What is asked within is one transaction; an exception rolls it back. Within another, it is a part of that one.

    psycopg's own would make the server forget, at a rollback, the statements that it has prepared for us.
    """
    if conn.info.transaction_status == pq.TransactionStatus.INTRANS:
        yield
        return
    ask_one(conn, begin)
    try:
        yield
    except BaseException:
        if not conn.closed:
            ask_one(conn, "ROLLBACK")
        raise
    ask_one(conn, "COMMIT")


def _exchange(pgconn: pq.abc.PGconn) -> PQGen[list[pq.abc.PGresult]]:
    """Send what is buffered and collect one result per statement, up to the sync."""
    while pgconn.flush():
        if (yield Wait.RW) & Ready.R:
            pgconn.consume_input()
    results: list[pq.abc.PGresult] = []
    while True:
        if not (yield Wait.R):
            continue
        pgconn.consume_input()
        ended = False
        while not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                if ended:
                    break  # nothing more is to be had without more input
                ended = True  # of one statement's results
                continue
            ended = False
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                return results
            results.append(result)


def _as_text(value: Parameter) -> bytes | None:
    match value:
        case str():
            return _without_nul(value).encode()
        case None:
            return None
        case int():
            return b"%d" % value
        case bytes():
            return b"\\x" + value.hex().encode()
        case date():  # a datetime is one
            return value.isoformat().encode()
        case UUID():
            return str(value).encode()
    if not value:
        return b"{}"
    text = _SEPARATOR.join([str(element) for element in value])
    if text.count('"') >= 2 * len(value) - 1 or "\\" in text:  # not only those that we have put there
        text = _SEPARATOR.join([str(element).replace("\\", "\\\\").replace('"', '\\"') for element in value])
    return f'{{"{_without_nul(text)}"}}'.encode()


def _without_nul(text: str) -> str:
    """libpq would cut the text there; raises psycopg.DataError."""
    if "\0" in text:
        raise psycopg.DataError("PostgreSQL's text cannot hold NUL")
    return text
