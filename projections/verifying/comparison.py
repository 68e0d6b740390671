"""The live tables, as of one moment, against the rows that the log makes of them up to that moment."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from psycopg import sql

from ledger.audit.findings import Finding, Findings
from ledger.store.connection import Connection
from ledger.store.scan import head
from projections.rows import SNAPSHOT
from projections.verifying.expected import AGAIN, AGAIN_LINES, RETURN, Return, to_return
from projections.verifying.held_again import HeldAgain, join
from projections.verifying.rows import columns_of
from projections.verifying.spool import BUCKETS, Spool
from projections.verifying.tables import BY_TAG, FULFILMENT_REQUESTS, LINES, RESERVATIONS, Table

COPY_MINUTES = 60

_COPY = sql.SQL("COPY (SELECT {columns} FROM {table}) TO STDOUT")
_FOLLOWING = "SELECT name, position FROM following"
_LOCK = sql.SQL("LOCK TABLE {tables} IN ACCESS SHARE MODE")

Rows = dict[tuple[bytes, bytes], bytes]


def copy_tables(
    conn: Connection,
    spool: Spool,
    tables: Sequence[Table],
    begin: Callable[[str], None],
    moved: Callable[[int], None],
) -> tuple[int, dict[str, int]]:
    """Take down all rows of the tables as of one moment; returns the log's position then, and where followers were.

    Keeps nobody waiting, and holds its snapshot for no longer than this takes. The tables are locked before it, so
    that none is exchanged for a rebuilt one meanwhile. `begin` is told each table, `moved` how many rows it gave.
    """
    conn.execute(SNAPSHOT)
    conn.execute(sql.SQL("SET LOCAL statement_timeout TO {}").format(sql.Literal(f"{COPY_MINUTES}min")))
    conn.execute(_LOCK.format(tables=sql.SQL(", ").join(sql.Identifier(table.name) for table in tables)))
    position = head(conn)
    followed = {name: int(reached) for name, reached in conn.execute(_FOLLOWING)}
    for table in tables:
        begin(table.name)
        _copy(conn, spool, table, moved)
    conn.execute("COMMIT")
    return position, followed


def _copy(conn: Connection, spool: Spool, table: Table, moved: Callable[[int], None]) -> None:
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    statement = _COPY.format(columns=columns, table=sql.Identifier(table.name))
    number = 0
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        for number, line in enumerate(copy, 1):
            row = bytes(line)[:-1]
            spool.add("table", table.tag, table.spread_of(row), row)
            if number % 10_000 == 0:
                moved(10_000)
    moved(number % 10_000)


class Comparison:
    """`tables` were copied; with none, only what the log says of itself is judged.

    `last_position` tells where the log last says something of a stream.
    """

    def __init__(
        self, spool: Spool, tables: Sequence[Table], findings: Findings, last_position: Callable[[str], int | None]
    ) -> None:
        self._spool = spool
        self._tables = {table.tag: table for table in tables}
        self._findings = findings
        self._last_position = last_position

    def run(self) -> None:
        self._spool.flush()
        for bucket in range(BUCKETS):
            expected, returns = self._expected(bucket)
            for key, back in returns:
                self._judge(expected, key, back)
            if self._tables:
                self._compare(expected, self._spool.rows("table", bucket))

    def _expected(self, bucket: int) -> tuple[Rows, list[tuple[bytes, Return]]]:
        """What the log makes of a bucket: rows by tag and key, and returns in order."""
        expected: Rows = {}
        returns = []
        again: dict[bytes, HeldAgain] = {}
        for tag, row in self._spool.rows("log", bucket):
            if tag == RETURN:
                returns.append(to_return(row))
                continue
            if tag == AGAIN:
                self._hold_again(again, HeldAgain(row))
                continue
            if tag == AGAIN_LINES:
                again[RESERVATIONS.key_of(row)].lines.append(row)
                continue
            key = tag, BY_TAG[tag].key_of(row)
            if key not in expected:
                expected[key] = row
            elif tag == RESERVATIONS.tag:
                self._taken("reservation-taken", RESERVATIONS, expected[key], row)
            elif tag == FULFILMENT_REQUESTS.tag:
                self._taken("purchase-taken", FULFILMENT_REQUESTS, expected[key], row)
        for later in again.values():
            join(expected, later, self._findings)
        return expected, returns

    def _hold_again(self, again: dict[bytes, HeldAgain], later: HeldAgain) -> None:
        """What was held again once is purchased after: it cannot expire, and be held again, a second time."""
        first = again.setdefault(RESERVATIONS.key_of(later.row), later)
        if first is not later:
            self._taken("reservation-taken", RESERVATIONS, first.row, later.row)

    def _taken(self, kind: str, table: Table, first: bytes, second: bytes) -> None:
        """An id is in the log twice, the second time after its first use was over."""
        was, now = _named(table, first), _named(table, second)
        found = f"{table.columns[0]} {was[table.columns[0]]}, first used at position {was['position']}"
        wanted = "an id that is not in use"
        self._findings.add(Finding(kind=kind, expected=wanted, found=found, position=int(now["position"])))

    def _judge(self, expected: Rows, key: bytes, back: Return) -> None:
        """Check a return against what was purchased, and carry it into the line's row."""
        made = expected.get((RESERVATIONS.tag, key))
        if made is None or int(_named(RESERVATIONS, made)["position"]) > back.position:
            unknown = f"{key.decode()}, which was never made"
            self._findings.at(back, "reservation-not-open", "a reservation", unknown)
            return
        number = 0
        while (row := expected.get(line_key := (LINES.tag, b"%s\t%d" % (key, number)))) is not None:
            line = _named(LINES, row)
            if (line["sku"], line["sn"]) == back.key:
                left = int(line["purchased"]) - int(line["returned"])
                if back.quantity > left:
                    self._findings.at(back, "quantity", f"at most {left}, which is sold", back.quantity)
                columns = row.split(b"\t")
                columns[LINES.columns.index("returned")] = b"%d" % (int(line["returned"]) + back.quantity)
                expected[line_key] = b"\t".join(columns)
                return
            number += 1
        self._findings.at(back, "line-unknown", "a line of the reservation", f"reservation {key.decode()} has none")

    def _compare(self, expected: Rows, rows: Iterable[tuple[bytes, bytes]]) -> None:
        for tag, row in rows:
            table = self._tables[tag]
            wanted = expected.pop((tag, table.key_of(row)), None)
            if wanted is None:
                self._differs(table, "row-extra", row, "no such row", "a row")
            elif wanted != row:
                pairs = zip(table.columns, columns_of(wanted), columns_of(row), strict=True)
                for column, by_log, in_table in pairs:
                    if by_log != in_table:
                        self._differs(table, "row-differs", wanted, by_log, in_table, column)
        for (tag, _), row in expected.items():
            if tag in self._tables:
                self._differs(self._tables[tag], "row-missing", row, "a row", "none")

    def _differs(
        self, table: Table, kind: str, row: bytes, expected: str, found: str, column: str | None = None
    ) -> None:
        values = _named(table, row)
        stream = table.stream_of(values)
        position = int(values["position"]) if "position" in values else self._last_position(stream) if stream else None
        self._findings.add(
            Finding(
                kind=kind,
                table=table.name,
                key={name: values[name] for name in table.columns[: table.key]},
                column=column,
                stream=stream,
                position=position,
                expected=expected,
                found=found,
            )
        )


def _named(table: Table, row: bytes) -> Mapping[str, str]:
    return dict(zip(table.columns, columns_of(row), strict=True))
