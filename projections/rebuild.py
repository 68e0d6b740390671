"""Building the inline read models anew from the log, beside the live ones, and comparing the two."""

from collections.abc import Sequence

from psycopg import sql

from ledger.batch import Needs
from ledger.books import Books
from ledger.events import Entry
from ledger.reservations import reservation_of
from ledger.store.connection import connect
from ledger.store.log import read
from ledger.store.roundtrip import RoundTrip
from ledger.streams import parse_stream
from projections.inline import TABLES, InlineReadModels

CHUNK_ENTRIES = 2_000

_COMPARE = sql.SQL("""
SELECT count(*) FROM (
    (SELECT * FROM {live} EXCEPT ALL SELECT * FROM {rebuilt})
    UNION ALL
    (SELECT * FROM {rebuilt} EXCEPT ALL SELECT * FROM {live})
) AS difference
""")


class Rebuild:
    """New read models in `<schema>_rebuild`; a context manager that drops them at its end."""

    def __init__(self, url: str, schema: str) -> None:
        self._schema = schema
        self._scratch = f"{schema}_rebuild"
        # New tables are found first, the log behind them.
        self._conn = connect(url, f"{self._scratch},{schema}", "stockledger rebuild")
        self._models = InlineReadModels()
        self.position = 0

    def __enter__(self) -> "Rebuild":
        self._drop()
        self._conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(self._scratch)))
        for table in TABLES:
            like = sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)")
            self._conn.execute(like.format(self._new(table), sql.Identifier(self._schema, table)))
        return self

    def __exit__(self, *_: object) -> None:
        with self._conn:
            self._drop()

    def catch_up(self) -> int:
        """Fold what the log holds beyond `position`, in chunks; returns the position reached."""
        while entries := read(self._conn, self.position, CHUNK_ENTRIES):
            self._fold(entries)
            self.position = entries[-1].position
        return self.position

    def differences(self) -> dict[str, int]:
        """Rows that are in only one of live and rebuilt, by table; empty when they are equal.

        Writers are kept waiting for as long as it takes, so that both are of the same position.
        """
        with self._conn.transaction():
            lock = sql.SQL("LOCK TABLE {} IN SHARE MODE").format(sql.Identifier(self._schema, "stored_events"))
            self._conn.execute(lock)
            self.catch_up()
            counts = {table: self._count_differences(table) for table in TABLES}
        return {table: count for table, count in counts.items() if count}

    def _fold(self, entries: Sequence[Entry]) -> None:
        books = Books(entries[0].recorded_at, entries[0].position - 1)
        load = RoundTrip(self._conn)
        loaded = self._models.ask(load, _needs(entries))
        load.go()
        loaded(books)
        for entry in entries:
            books.apply(entry)
        save = RoundTrip(self._conn)  # one transaction, being one round trip
        self._models.save(save, books, entries)
        save.go()

    def _count_differences(self, table: str) -> int:
        query = _COMPARE.format(live=sql.Identifier(self._schema, table), rebuilt=self._new(table))
        row = self._conn.execute(query).fetchone()
        assert row is not None, "a count has a row"
        return int(row[0])

    def _new(self, table: str) -> sql.Identifier:
        return sql.Identifier(self._scratch, table)

    def _drop(self) -> None:
        self._conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(self._scratch)))


def _needs(entries: Sequence[Entry]) -> Needs:
    needs = Needs()
    for entry in entries:
        family, sku, sn = parse_stream(entry.stream)
        needs.skus.add(sku)
        if family == "item":
            needs.items.add((sku, sn))
        if (reservation_id := reservation_of(entry.event)) is not None:
            needs.reservations.add(reservation_id)
    return needs
