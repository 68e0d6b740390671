"""The chain of the log: whoever writes, each entry is sealed with the one before, and SQL alone can check it."""

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from ledger.engine.ledger import Ledger
from ledger.stock.commands import AddStock, PutFungible
from ledger.store import migrate
from ledger.store.connection import Connection, connect
from ledger.store.entry_lines import StoredEntry, to_line
from ledger.store.log import read_stored
from ledger.store.recorder import LedgerDatastore, LedgerRecorder
from tests.conftest import drop_ledger

# As docs/auditing.md tells an auditor: nothing in it is ours.
CHECK = re.findall("```sql\n(.*?);\n```", (Path(__file__).parents[3] / "docs/auditing.md").read_text(), re.DOTALL)[0]


def digests(conn: Connection) -> list[bytes]:
    return [digest for (digest,) in conn.execute("SELECT digest FROM stored_events ORDER BY notification_id")]


def chained(entries: list[StoredEntry]) -> Iterator[bytes]:
    """With SHA-256 alone, and slowly."""
    digest = bytes(32)
    for entry in entries:
        digest = hashlib.sha256(digest + to_line(entry)).digest()
        yield digest


def check(conn: Connection) -> None:
    assert digests(conn) == list(chained(read_stored(conn, 0)))
    assert conn.execute(CHECK.encode()).fetchall() == []


def test_every_entry_is_sealed_with_the_one_before(ledger: Ledger, conn: Connection):
    ledger.handle(PutFungible(sku='odd "\\ \u00e9', amount_in_stock=2, reason="\n\t\x01\u2028\x7f"))
    ledger.handle_many([AddStock(sku='odd "\\ \u00e9', quantity=1)] * 3)

    assert len(digests(conn)) == 5
    check(conn)


def test_what_the_library_inserts_is_sealed(postgres_url: str, schema: str, ledger: Ledger, conn: Connection):
    ledger.handle(PutFungible(sku="A", amount_in_stock=1))
    recorder = LedgerRecorder(LedgerDatastore(postgres_url, schema))

    recorder.insert_events([StoredEvent("stock/main/A", n, "StockAdded.v1", b'{"n":%d}' % n) for n in (2, 3)])
    recorder.insert_events([StoredEvent("stock/main/B", 1, "StockAdded.v1", b"\xff\n")])  # whatever the bytes are
    recorder.datastore.close()
    ledger.handle(PutFungible(sku="C"))

    assert len(digests(conn)) == 6
    check(conn)


@pytest.mark.parametrize("position", [1, 2, 4])
def test_sql_alone_names_what_was_changed(ledger: Ledger, conn: Connection, position: int):
    for sku in "ABCD":
        ledger.handle(PutFungible(sku=sku))
    conn.execute("ALTER TABLE stored_events DISABLE TRIGGER ALL")
    conn.execute("UPDATE stored_events SET state = state || ' ' WHERE notification_id = %s", [position])

    assert conn.execute(CHECK.encode()).fetchall() == [(position,)]


def test_sql_makes_the_same_line_whatever_the_time_zone_and_the_text(ledger: Ledger, conn: Connection):
    every_character = "".join(map(chr, [*range(1, 256), 0x2028, 0xFFFD, 0x1F600]))
    row = StoredEntry(7, datetime(1999, 12, 31, 23, 59, 59, 10, UTC), every_character, 8, every_character, b'{"a":1}')
    conn.execute("SET TimeZone TO 'Asia/Kathmandu'")
    conn.execute("SET DateStyle TO 'SQL, DMY'")

    (line,) = conn.execute("SELECT entry_line((%s, %s, %s, %s, %s, %s, NULL))", [*row[2:], *row[:2]]).fetchone() or ()

    assert line == to_line(row)


def test_a_log_from_before_is_sealed_when_it_is_migrated(postgres_url: str, monkeypatch: pytest.MonkeyPatch):
    schema = "test_from_before"
    every = migrate.migrations()
    monkeypatch.setattr(migrate, "migrations", lambda: [each for each in every if each.version < 11])
    migrate.migrate(postgres_url, schema)
    try:
        with connect(postgres_url, schema) as conn:
            conn.execute(
                "INSERT INTO stored_events SELECT 'stock/main/A', n, 'StockAdded.v1', convert_to('{\"n\":' || n || '}',"
                " 'UTF8'), n, '2026-01-01Z'::timestamptz + n * interval '1 hour' FROM generate_series(1, 100) AS n"
            )
            monkeypatch.setattr(migrate, "migrations", lambda: every)
            migrate.migrate(postgres_url, schema)

            assert len(set(digests(conn))) == 100
            check(conn)
            reasons = conn.execute("SELECT operation, reason FROM maintenance_log").fetchall()
            assert reasons == [("UPDATE", "migration 0011 seals the entries that are there")]
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                conn.execute("UPDATE stored_events SET digest = ''")
    finally:
        drop_ledger(postgres_url, schema)
