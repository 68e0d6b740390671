"""The running ledger verified: nothing is found in what the service wrote, and whatever is tampered with is named."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from psycopg import sql

from ledger.audit.findings import Finding, Findings
from ledger.catalogue.commands import ProductChanges
from ledger.engine.ledger import Ledger
from ledger.export.reading import ExportedLog
from ledger.export.writing import Export
from ledger.items.commands import PutItem
from ledger.reservations.commands import (
    ChangeReservation,
    Line,
    PurchaseReservation,
    ReleaseReservation,
    ReturnPurchase,
)
from ledger.stock.commands import AddStock, PutFungible
from ledger.store.connection import Connection, connect
from ledger.store.scan import head
from projections.following.projection_runner import MODELS, Follower
from projections.inline import TABLES
from projections.verifying import tables
from projections.verifying.verification import Verified, verify_export, verify_ledger
from tests.ledger.given import OTHER_ID, PURCHASE_ID
from tests.projections.test_read_models import VARIED_HISTORY, R, cart, given

# The whole chain anew, as whoever owns the log can make it.
SEAL = """
UPDATE stored_events AS entry SET digest = sealed.digest
FROM (
    SELECT notification_id, chain(
        CASE WHEN before IS NULL THEN decode(repeat('00', 32), 'hex') ELSE '' END || entry_line(each)
    ) OVER (ORDER BY notification_id) AS digest
    FROM (
        SELECT stored_events AS each, notification_id, lag(notification_id) OVER (ORDER BY notification_id) AS before
        FROM stored_events
    ) AS entries
) AS sealed
WHERE entry.notification_id = sealed.notification_id
"""
Verify = Callable[[], list[Finding]]


class Silent:
    def begin(self, stage: str, total: int | None, unit: str) -> None: ...
    def moved(self, by: int) -> None: ...


@pytest.fixture
def opened(service_url: str, schema: str) -> Callable[[], Connection]:
    """Opens connections that may only read."""

    def connect_to_read() -> Connection:
        conn = connect(service_url, schema)
        conn.read_only = True
        return conn

    return connect_to_read


@pytest.fixture
def verify(opened: Callable[[], Connection]) -> Verify:
    def run() -> list[Finding]:
        findings = Findings()
        verify_ledger(opened, findings, Silent())
        return findings.kept

    return run


@pytest.fixture
def tamper(conn: Connection) -> Callable[[str], None]:
    """As a superuser who has switched the guards off, and seals the log anew: only the rules can tell then."""

    def run(statement: str) -> None:
        conn.execute("ALTER TABLE stored_events DISABLE TRIGGER ALL")
        conn.execute(statement)
        conn.execute(SEAL)
        conn.execute("ALTER TABLE stored_events ENABLE TRIGGER ALL")

    return run


def follow(url: str, schema: str) -> None:
    """Let every following read model come up to the head."""
    follower = Follower(url, schema)
    while not follower.step():
        pass
    follower.close()


FOLLOWING = tuple(name for model in MODELS for name in model.tables)


def test_every_table_of_every_read_model_is_compared():
    assert tuple(table.name for table in tables.INLINE) == TABLES
    assert tuple(table.name for table in tables.FOLLOWING) == FOLLOWING


def test_nothing_is_found_in_what_the_service_wrote(
    ledger: Ledger, opened: Callable[[], Connection], service_url: str, schema: str
):
    given(ledger, *VARIED_HISTORY)
    follow(service_url, schema)
    findings = Findings()

    verified = verify_ledger(opened, findings, Silent())

    assert findings.kept == []
    with opened() as conn:
        assert verified.entries == verified.last == head(conn)
    assert all(verified.rows[table] for table in TABLES + FOLLOWING)  # each has had something to compare


def test_nothing_is_found_in_an_empty_ledger(opened: Callable[[], Connection]):
    findings = Findings()

    verified = verify_ledger(opened, findings, Silent())

    assert (findings.kept, verified.entries, verified.last_recorded_at) == ([], 0, None)


def test_odd_texts_are_compared_as_they_are(ledger: Ledger, verify: Verify):
    odd = 'a\\b\t"é"\n\r\v\f\b\\N{}\u2028'
    given(
        ledger,
        PutFungible(sku='x "\\ \u00e9', amount_in_stock=5, **R),
        PutItem(sku="B\\", sn='"\\t', purchase_id=PURCHASE_ID, **R),
        cart(UUID(int=1), Line('x "\\ \u00e9', 1), Line("B\\", sn='"\\t'), owner=odd, reference=odd),
        PurchaseReservation(reservation_id=UUID(int=1), purchase_id=OTHER_ID, **R),
    )

    assert verify() == []


ROWS = {
    "products": ("UPDATE products SET color = 'Red' WHERE sku = 'A'", "product/A", 3, "color", "Yellow", "Red"),
    "stock_levels": ("UPDATE stock_levels SET on_hand = on_hand + 1", "stock/main/A", 25, "on_hand", "9", "10"),
    "items": ("UPDATE items SET notes = NULL WHERE sn = '1'", "item/B/1", 24, "notes", "Scratched", "null"),
    "reservations": ("UPDATE reservations SET owner = 'bob' WHERE owner = 'ann'", None, 9, "owner", "ann", "bob"),
    "reservation_lines": (
        "UPDATE reservation_lines SET returned = 0 WHERE returned > 0 AND sn = ''",
        "stock/main/A",
        9,
        "returned",
        "1",
        "0",
    ),
    "fulfilment_requests": (
        "UPDATE fulfilment_requests SET lines = '[]' WHERE reservation_id IS NULL",
        None,
        22,
        "lines",
        '[{"sn": "2", "sku": "B"}]',
        "[]",
    ),
}


@pytest.mark.parametrize("table", TABLES)
def test_an_edited_row_is_named(ledger: Ledger, verify: Verify, conn: Connection, table: str):
    given(ledger, *VARIED_HISTORY)
    statement, stream, position, column, expected, found = ROWS[table]
    conn.execute(statement)

    (finding,) = verify()

    assert (finding.kind, finding.table, finding.column) == ("row-differs", table, column)
    assert (finding.expected, finding.found) == (expected, found)
    assert (finding.stream, finding.position) == (stream, position)


@pytest.mark.parametrize("table", TABLES)
def test_a_row_that_is_gone_is_named(ledger: Ledger, verify: Verify, conn: Connection, table: str):
    given(ledger, *VARIED_HISTORY)
    row = sql.SQL("(SELECT ctid FROM {} LIMIT 1)").format(sql.Identifier(table))
    conn.execute(sql.SQL("DELETE FROM {} WHERE ctid = {}").format(sql.Identifier(table), row))

    assert [(finding.kind, finding.table) for finding in verify()] == [("row-missing", table)]


def test_a_row_that_nothing_has_made_is_named(ledger: Ledger, verify: Verify, conn: Connection):
    given(ledger, *VARIED_HISTORY)
    conn.execute("INSERT INTO stock_levels VALUES ('Z', 1, 0, 1, now())")

    (finding,) = verify()

    assert (finding.kind, finding.table, finding.key) == ("row-extra", "stock_levels", {"sku": "Z"})
    assert (finding.stream, finding.position) == ("stock/main/Z", None)


def test_one_byte_changed_in_an_event_is_named(ledger: Ledger, verify: Verify, tamper: Callable[[str], None]):
    given(ledger, PutFungible(sku="A", amount_in_stock=10, **R), AddStock(sku="A", quantity=5, **R))
    tamper(
        "UPDATE stored_events SET state = convert_to(replace(convert_from(state, 'UTF8'), '\"quantity\":5', "
        "'\"quantity\":6'), 'UTF8') WHERE notification_id = 3"
    )

    (finding,) = verify()

    assert (finding.kind, finding.position, finding.stream, finding.version) == ("balance", 3, "stock/main/A", 2)
    assert finding.expected.startswith("on_hand 16, reserved 0")
    assert finding.found == "on_hand 15, reserved 0"


def test_an_event_deleted_is_named(ledger: Ledger, verify: Verify, tamper: Callable[[str], None]):
    given(ledger, PutFungible(sku="A", amount_in_stock=10, **R), *[AddStock(sku="A", quantity=5, **R)] * 3)
    tamper("DELETE FROM stored_events WHERE notification_id = 4")

    assert [(f.kind, f.position, f.stream, f.expected) for f in verify()] == [
        ("position-missing", 4, None, "position 4"),
        ("version", 5, "stock/main/A", "version 3"),
    ]


def test_the_last_event_deleted_shows_in_the_read_models(ledger: Ledger, verify: Verify, tamper: Callable[[str], None]):
    given(ledger, PutFungible(sku="A", amount_in_stock=10, **R), AddStock(sku="A", quantity=5, **R))
    tamper("DELETE FROM stored_events WHERE notification_id = 3")

    assert [(f.kind, f.stream, f.column, f.expected, f.found) for f in verify()][:2] == [
        ("row-differs", "stock/main/A", "on_hand", "10", "15"),
        ("row-differs", "stock/main/A", "version", "1", "2"),
    ]


def test_two_events_swapped_are_named(ledger: Ledger, verify: Verify, tamper: Callable[[str], None]):
    given(ledger, PutFungible(sku="A", amount_in_stock=10, **R), AddStock(sku="A", quantity=5, **R))
    given(ledger, PutFungible(sku="C", **R))
    tamper("UPDATE stored_events SET notification_id = 99 WHERE notification_id = 3")
    tamper("UPDATE stored_events SET notification_id = 3 WHERE notification_id = 4")
    tamper("UPDATE stored_events SET notification_id = 4 WHERE notification_id = 99")

    assert [(f.kind, f.position, f.stream, f.version) for f in verify()] == [("time", 4, "stock/main/A", 2)]


def test_goods_that_come_back_after_the_end_are_judged(
    ledger: Ledger, verify: Verify, tamper: Callable[[str], None], conn: Connection
):
    """A reservation that is over is no longer in memory by then."""
    given(
        ledger,
        PutFungible(sku="A", amount_in_stock=10, **R),
        cart(UUID(int=1), Line("A", 3)),
        PurchaseReservation(reservation_id=UUID(int=1), purchase_id=PURCHASE_ID, **R),
        ReturnPurchase(reservation_id=UUID(int=1), lines=(Line("A", 1),), **R),
        ReturnPurchase(reservation_id=UUID(int=1), lines=(Line("A", 1),), **R),
    )
    assert verify() == []
    state = '{"actor":"anonymous","request_id":"r","quantity":3,"on_hand":11,"reserved":0,"reservation_id":"%s"}'
    tamper(f"UPDATE stored_events SET state = '{state % UUID(int=1)}' WHERE notification_id = 6")

    found = {(f.kind, f.position, f.stream, f.expected, f.found) for f in verify() if f.table is None}

    assert found == {("quantity", 6, "stock/main/A", "at most 2, which is sold", "3")}

    tamper(f"UPDATE stored_events SET state = '{state % UUID(int=7)}' WHERE notification_id = 6")

    assert ("reservation-not-open", 6) in {(f.kind, f.position) for f in verify()}


def test_an_id_that_is_used_again_after_its_end_is_named(ledger: Ledger, verify: Verify, tamper: Callable[[str], None]):
    given(ledger, PutFungible(sku="A", amount_in_stock=10, **R))
    for number in (1, 2):
        given(ledger, cart(UUID(int=number), Line("A", 1)), ReleaseReservation(reservation_id=UUID(int=number), **R))
    tamper(
        "UPDATE stored_events SET state = convert_to(replace(convert_from(state, 'UTF8'), "
        f"'{UUID(int=2)}', '{UUID(int=1)}'), 'UTF8')"
    )

    assert [(f.kind, f.position) for f in verify() if f.table is None] == [("reservation-taken", 5)]


@pytest.fixture
def held_again(ledger: Ledger) -> None:
    """Ann's cart of 3 A and B/1 expired, was held again, was bought in part, changed, and part of it came back."""
    given(
        ledger,
        PutFungible(sku="A", amount_in_stock=10, **R),
        PutFungible(sku="C", amount_in_stock=10, **R),
        PutItem(sku="B", sn="1", purchase_id=PURCHASE_ID, **R),
        cart(UUID(int=1), Line("A", 4), Line("B", sn="1"), owner="ann", ttl_seconds=1),
        ReleaseReservation(reservation_id=UUID(int=1), lines=(Line("A", 1),), **R),
    )
    time.sleep(1.05)
    bought = {"purchase_id": OTHER_ID, "lines": (Line("A", 2),), "rehold_seconds": 600}
    given(
        ledger,
        PurchaseReservation(reservation_id=UUID(int=1), **bought, **R),
        ChangeReservation(reservation_id=UUID(int=1), lines=(Line("A", 2), Line("C", 1)), **R),
        ReturnPurchase(reservation_id=UUID(int=1), lines=(Line("A", 1),), **R),
        ReleaseReservation(reservation_id=UUID(int=1), **R),
        ReturnPurchase(reservation_id=UUID(int=1), lines=(Line("A", 1),), **R),
    )


@pytest.mark.usefixtures("held_again")
def test_nothing_is_found_in_a_cart_that_was_held_again(verify: Verify):
    assert verify() == []


FORGED = {
    "another quantity": ('"again":true', "quantity", '"quantity":3', '"quantity":2'),
    "another owner": ('"again":true', "reservation-taken", '"owner":"ann"', '"owner":"bob"'),
    "never made": ('"again":true', "reservation-not-open", str(UUID(int=1)), str(UUID(int=7))),
    "not said": ('"again":true', "reservation-taken", ',"again":true', ""),
    "not after it expired": ('"cause":"expired"', "reservation-not-open", '"expired"', '"cancelled"'),
}


@pytest.mark.usefixtures("held_again")
@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_holding_again_is_named(verify: Verify, tamper: Callable[[str], None], forged: str):
    where, kind, old, new = FORGED[forged]
    tamper(
        f"UPDATE stored_events SET state = convert_to(replace(convert_from(state, 'UTF8'), '{old}', '{new}'), 'UTF8')"
        f" WHERE convert_from(state, 'UTF8') LIKE '%{where}%'"
    )

    assert kind in {finding.kind for finding in verify() if finding.table is None}


def test_a_ledger_that_is_written_to_meanwhile_is_as_it_should_be(ledger: Ledger, opened: Callable[[], Connection]):
    given(ledger, *VARIED_HISTORY)
    done = threading.Event()

    def write(turn: int = 0) -> None:
        while not done.is_set():
            reservation_id = UUID(int=turn + 1000 * threading.get_ident())
            given(ledger, AddStock(sku="A", quantity=1), cart(reservation_id, Line("A", 1)))
            turn += 1

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        verified: list[Verified] = []
        for _ in range(5):
            findings = Findings()
            verified.append(verify_ledger(opened, findings, Silent()))
            assert findings.kept == []
    finally:
        done.set()
        for writer in writers:
            writer.join()

    assert verified[0].last < verified[-1].last


# Read models that follow


def test_following_read_models_are_compared_as_far_as_they_are(
    ledger: Ledger, opened: Callable[[], Connection], service_url: str, schema: str
):
    findings, rows = Findings(), []
    given(ledger, *VARIED_HISTORY[:9])
    follow(service_url, schema)
    given(ledger, *VARIED_HISTORY[9:])
    for _ in range(2):
        verified = verify_ledger(opened, findings, Silent())
        rows.append({name: verified.rows[name] for name in FOLLOWING})
        assert findings.kept == []
        follow(service_url, schema)

    assert all(rows[0].values())


def test_following_read_models_are_compared_day_by_day(
    ledger: Ledger, verify: Verify, tamper: Callable[[str], None], service_url: str, schema: str, conn: Connection
):
    given(ledger, *VARIED_HISTORY, PutFungible(sku="A", changes=ProductChanges(unit_price_cents=7), **R))
    tamper("UPDATE stored_events SET recorded_at = recorded_at - interval '3 days' WHERE notification_id < 9")
    tamper(
        "UPDATE stored_events SET recorded_at = recorded_at - interval '1 day' WHERE notification_id BETWEEN 9 AND 20"
    )
    follow(service_url, schema)

    assert [finding for finding in verify() if finding.table in FOLLOWING] == []
    days = conn.execute("SELECT count(DISTINCT day) FROM movements_daily").fetchone()
    assert days == (3,)


@pytest.mark.parametrize("table", FOLLOWING)
def test_an_edited_row_of_a_following_read_model_is_named(
    ledger: Ledger, verify: Verify, conn: Connection, service_url: str, schema: str, table: str
):
    given(ledger, *VARIED_HISTORY)
    follow(service_url, schema)
    column = {"movements_daily": "expired", "valued_items": "price_cents"}.get(table, "on_hand")
    statement = "UPDATE {0} SET {1} = {1} + 1 WHERE ctid = (SELECT ctid FROM {0} LIMIT 1)"
    conn.execute(sql.SQL(statement).format(sql.Identifier(table), sql.Identifier(column)))

    (finding,) = verify()

    assert (finding.kind, finding.table, finding.column) == ("row-differs", table, column)
    assert int(finding.found) == int(finding.expected) + 1


# With an export


@pytest.fixture
def export(opened: Callable[[], Connection], schema: str, tmp_path: Path) -> Callable[..., ExportedLog]:
    def run(first: int = 1, file_entries: int = 4) -> ExportedLog:
        folder = tmp_path / "export"
        folder.mkdir()
        exporting = Export(opened, schema, folder, "ndjson", first)
        exporting.resume()
        with opened() as conn:
            exporting.run(head(conn), file_entries, lambda _: None)
        return ExportedLog(folder)

    return run


def test_nothing_is_found_in_an_export(ledger: Ledger, export: Callable[..., ExportedLog]):
    given(ledger, *VARIED_HISTORY)
    exported, findings = export(), Findings()

    verified = verify_export(exported, findings, Silent())

    assert findings.kept == []
    assert (verified.entries, verified.last, verified.rows) == (exported.manifest.count, exported.manifest.last, {})


def test_an_export_of_a_tampered_log_is_not_as_it_should_be(
    ledger: Ledger, export: Callable[..., ExportedLog], tamper: Callable[[str], None]
):
    given(ledger, PutFungible(sku="A", amount_in_stock=10, **R), AddStock(sku="A", quantity=5, **R))
    tamper("UPDATE stored_events SET recorded_at = '2000-01-01' WHERE notification_id = 3")
    findings = Findings()

    verify_export(export(), findings, Silent())

    assert [(f.kind, f.position) for f in findings.kept] == [("time", 3)]


def test_a_part_of_the_log_is_not_replayed(ledger: Ledger, export: Callable[..., ExportedLog]):
    given(ledger, *VARIED_HISTORY)
    findings = Findings()

    verified = verify_export(export(first=5), findings, Silent())

    assert (findings.kept, verified.first, verified.replayed) == ([], 5, False)
