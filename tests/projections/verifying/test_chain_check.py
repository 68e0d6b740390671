"""The chain verified: whatever is changed in the log, by whomever, just that is named."""

import hashlib
import random
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from psycopg import sql

from ledger.audit.chain_check import MAX_IN_DOUBT, ChainCheck
from ledger.audit.findings import Finding, Findings
from ledger.engine.ledger import Ledger
from ledger.export import manifest
from ledger.export.reading import ExportedLog
from ledger.export.writing import Export
from ledger.stock.commands import AddStock, PutFungible
from ledger.store.connection import Connection
from ledger.store.entry_lines import SealedEntry
from ledger.store.hash_chain import BEGINNING, seal
from ledger.store.scan import digest_at, head
from projections.verifying.verification import Verified, verify_export, verify_ledger
from tests.projections.test_read_models import VARIED_HISTORY, R, given
from tests.projections.verifying.test_verification import SEAL, Silent, opened  # noqa: F401

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
Noted = dict[int, bytes]
Tamper = Callable[..., None]


@pytest.fixture
def tamper(conn: Connection) -> Tamper:
    """As a superuser who has switched the guards off, and does not know of the chain."""

    def run(*statements: str) -> None:
        conn.execute("ALTER TABLE stored_events DISABLE TRIGGER ALL")
        for statement in statements:
            conn.execute(statement)
        conn.execute("ALTER TABLE stored_events ENABLE TRIGGER ALL")

    return run


@pytest.fixture
def found(opened: Callable[[], Connection]) -> Callable[..., list[Finding]]:  # noqa: F811
    def run(noted: Noted | None = None) -> list[Finding]:
        findings = Findings()
        verify_ledger(opened, findings, Silent(), noted)
        return findings.kept

    return run


def unsealed(findings: Sequence[Finding]) -> list[int | None]:
    """Positions whose bytes are not those that were sealed."""
    return sorted(finding.position or 0 for finding in findings if finding.kind == "seal")


def test_the_last_digest_is_told(ledger: Ledger, opened: Callable[[], Connection], conn: Connection):  # noqa: F811
    given(ledger, *VARIED_HISTORY)
    findings = Findings()

    verified = verify_ledger(opened, findings, Silent(), {7: digest_at(conn, 7) or b""})

    assert (findings.kept, verified.last) == ([], head(conn))
    assert verified.digest == (digest_at(conn, verified.last) or b"").hex()


PLACE = "SELECT notification_id, originator_id, originator_version FROM stored_events WHERE notification_id = %s"
# A byte of each column, as SQL that changes one; %d is the number of the byte, of those that the column has.
FLIPS = {
    "state": "set_byte(state, %d, get_byte(state, %d) # 1)",
    "digest": "set_byte(digest, %d, get_byte(digest, %d) # 128)",
    "originator_id": "overlay(originator_id PLACING '~' FROM %d + 1 FOR 1)",
    "topic": "overlay(topic PLACING '~' FROM %d + 1 FOR 1)",
    "originator_version": "originator_version # (32::bigint << (8 * %d))",
    "recorded_at": "recorded_at + (1::bigint << (8 * %d)) * interval '1 microsecond'",
}
# Of the whole numbers; the sign is refused by the table, and the highest byte of a time is out of PostgreSQL's range.
BYTES = {"originator_version": 8, "recorded_at": 7}


def test_any_single_byte_of_any_column_is_named_exactly(
    ledger: Ledger, found: Callable[..., list[Finding]], tamper: Tamper, conn: Connection
):
    given(ledger, *VARIED_HISTORY)
    chance = random.Random(11)
    last = head(conn)
    for column in [*FLIPS] * 6:
        position = chance.randint(1, last)
        length = sql.SQL("SELECT length({}) FROM stored_events WHERE notification_id = {}")
        size = BYTES.get(column) or conn.execute(length.format(sql.Identifier(column), position)).fetchone()[0]
        number = chance.randrange(size)
        kept = conn.execute("SELECT * FROM stored_events WHERE notification_id = %s", [position]).fetchone()
        flip = FLIPS[column].replace("%d", str(number))
        tamper(f"UPDATE stored_events SET {column} = {flip} WHERE notification_id = {position}")

        named = [(f.position, f.stream, f.version) for f in found() if f.kind == "seal"]

        select = (
            "SELECT notification_id, originator_id, originator_version FROM stored_events WHERE notification_id = %s"
        )
        assert named == [conn.execute(select, [position]).fetchone()], (column, position, number)
        conn.execute("ALTER TABLE stored_events DISABLE TRIGGER ALL")
        conn.execute("DELETE FROM stored_events WHERE notification_id = %s", [position])
        conn.execute("INSERT INTO stored_events VALUES (%s, %s, %s, %s, %s, %s, %s)", kept)
    assert found() == []


@pytest.mark.parametrize("time", ["infinity", "-infinity", "294276-01-01Z", "4713-01-01 BC"])
def test_a_time_that_cannot_be_is_named(ledger: Ledger, found: Callable[..., list[Finding]], tamper: Tamper, time: str):
    given(ledger, *VARIED_HISTORY)
    tamper(f"UPDATE stored_events SET recorded_at = '{time}' WHERE notification_id = 6")

    assert unsealed(found()) == [6]


@pytest.mark.parametrize("position", [1, 2, 12, 24])
def test_a_deleted_entry_is_named_by_its_position_alone(
    ledger: Ledger, found: Callable[..., list[Finding]], tamper: Tamper, position: int
):
    given(ledger, *VARIED_HISTORY)
    tamper(f"DELETE FROM stored_events WHERE notification_id = {position}")

    findings = found()

    assert [f.position for f in findings if f.kind == "position-missing"] == [position]
    assert unsealed(findings) == []


@pytest.mark.parametrize("shift", [1, 8, 16, 33, 60])
def test_a_position_of_which_a_bit_is_changed_is_missing(
    ledger: Ledger, found: Callable[..., list[Finding]], tamper: Tamper, shift: int
):
    given(ledger, *VARIED_HISTORY)
    tamper(f"UPDATE stored_events SET notification_id = {25 + 2**shift} WHERE notification_id = 5")

    findings = found()

    missing = [f for f in findings if f.kind == "position-missing"]
    assert (missing[0].position, missing[-1].found) == (5, f"position {25 + 2**shift} next")
    assert unsealed(findings) == []


@pytest.mark.parametrize(("one", "other"), [(3, 9), (9, 10), (1, 25), (24, 25), (1, 2)])
@pytest.mark.parametrize("columns", ["state", "state, topic", "originator_id, originator_version, topic, state"])
def test_two_entries_whose_contents_are_swapped_are_both_named(
    ledger: Ledger, found: Callable[..., list[Finding]], tamper: Tamper, one: int, other: int, columns: str
):
    given(ledger, *VARIED_HISTORY)
    tamper(
        "ALTER TABLE stored_events DROP CONSTRAINT stored_events_pkey",
        f"UPDATE stored_events AS e SET ({columns}) = (SELECT {columns} FROM stored_events"
        f" WHERE notification_id = {one + other} - e.notification_id) WHERE notification_id IN ({one}, {other})",
    )

    assert unsealed(found()) == [one, other]


@pytest.mark.parametrize(("one", "other"), [(3, 9), (9, 10), (9, 11), (1, 25), (24, 25), (1, 2)])
def test_two_rows_whose_positions_are_swapped_are_both_named(
    ledger: Ledger, found: Callable[..., list[Finding]], tamper: Tamper, one: int, other: int
):
    given(ledger, *VARIED_HISTORY)
    move = "UPDATE stored_events SET notification_id = {} WHERE notification_id = {}"
    tamper(move.format(999, one), move.format(one, other), move.format(other, 999))

    assert unsealed(found()) == [one, other]


def test_two_facts_of_one_transaction_on_other_skus_cannot_change_places(
    ledger: Ledger, found: Callable[..., list[Finding]], tamper: Tamper
):
    """All of it is allowed by the rules: times are the same, and each stream is as it was."""
    ledger.handle_many([PutFungible(sku=sku, amount_in_stock=5, **R) for sku in "AB"])
    ledger.handle_many([AddStock(sku=sku, quantity=1, **R) for sku in "AB"])
    move = "UPDATE stored_events SET notification_id = {} WHERE notification_id = {}"
    tamper(move.format(999, 5), move.format(5, 6), move.format(6, 999))

    assert [(f.kind, f.position, f.stream) for f in found()] == [
        ("seal", 5, "stock/main/B"),
        ("seal", 6, "stock/main/A"),
    ]


def test_who_seals_everything_anew_is_caught_by_a_digest_that_was_noted(
    ledger: Ledger, found: Callable[..., list[Finding]], tamper: Tamper, conn: Connection
):
    given(ledger, *VARIED_HISTORY)
    noted = {position: digest_at(conn, position) or b"" for position in (6, 7, 25)}
    given(ledger, AddStock(sku="A", quantity=1, **R))
    tamper(
        "UPDATE stored_events SET state = convert_to(replace(convert_from(state, 'UTF8'), 'anonymous', 'somebody!'),"
        " 'UTF8') WHERE notification_id = 7",
        SEAL,
    )

    assert found() == []  # nobody could tell
    assert [(f.kind, f.position) for f in found(noted)] == [("not-as-noted", 7), ("not-as-noted", 25)]


def test_what_was_cut_off_is_told_by_a_digest_that_was_noted(
    ledger: Ledger, found: Callable[..., list[Finding]], tamper: Tamper, conn: Connection
):
    given(ledger, *[PutFungible(sku=sku, **R) for sku in "ABC"])
    noted = {position: digest_at(conn, position) or b"" for position in (1, 2, 3)}
    tamper("DELETE FROM stored_events WHERE notification_id > 1", "DELETE FROM products WHERE sku > 'A'")

    assert [(f.kind, f.position, f.found) for f in found(noted)] == [
        ("not-as-noted", 2, "no entry"),
        ("not-as-noted", 3, "no entry"),
    ]


def test_more_than_can_be_looked_at_is_taken_for_changed():
    entries, digest = [], BEGINNING
    for position in range(1, 3 * MAX_IN_DOUBT):
        entry = SealedEntry(position, TEN, "stock/main/A", position, "X.v1", b"{}", b"")
        line = b'{"position":%d,"recorded_at":"2026-11-22T10:00:00.000000Z","stream":"stock/main/A","version":%d,' % (
            position,
            position,
        )
        digest = seal(digest, line + b'"event":"X.v1","data":{}}')
        entries.append(entry._replace(digest=digest))
    right, wrong = Findings(), Findings()

    for findings, state in ((right, b"{}"), (wrong, b"{ }")):
        seals = ChainCheck(findings, {})
        seals.take([entry._replace(state=state) for entry in entries])
        seals.end()

    assert (right.total, wrong.total) == (0, len(entries))


# Exports


@pytest.fixture
def export(opened: Callable[[], Connection], schema: str, tmp_path: Path) -> Callable[..., ExportedLog]:  # noqa: F811
    def run(first: int = 1, file_format: manifest.FileFormat = "ndjson") -> ExportedLog:
        with opened() as conn:
            last = head(conn)
        folder = tmp_path / file_format
        folder.mkdir(exist_ok=True)
        exporting = Export(opened, schema, folder, file_format, first)
        exporting.resume()
        exporting.run(last, 10, lambda _: None)
        return ExportedLog(folder)

    return run


def verified(exported: ExportedLog, noted: Noted | None = None) -> tuple[Verified, list[tuple[str, int | str | None]]]:
    findings = Findings()
    result = verify_export(exported, findings, Silent(), noted)
    return result, [(f.kind, f.position or f.file) for f in findings.kept]


@pytest.mark.parametrize("file_format", ["ndjson", "parquet"])
@pytest.mark.parametrize("first", [1, 5])
def test_an_export_has_the_digests_of_the_log(
    ledger: Ledger, export: Callable[..., ExportedLog], conn: Connection, first: int, file_format: str
):
    given(ledger, *VARIED_HISTORY)
    noted = {position: digest_at(conn, position) or b"" for position in (5, 17, 25)}

    exported = export(first, file_format)

    for file in exported.manifest.files:
        ends = [digest_at(conn, position) or b"" for position in (file.first - 1, file.last)]
        assert [file.digest_before, file.digest] == [digest.hex() for digest in ends]
    result, findings = verified(exported, noted)
    assert (findings, result.digest) == ([], noted[25].hex())


def test_an_export_that_was_changed_and_hashed_anew_is_caught_by_its_digests(
    ledger: Ledger, export: Callable[..., ExportedLog], conn: Connection
):
    """First as somebody does who knows SHA-256 of files, then who knows of the chain as well."""
    given(ledger, *VARIED_HISTORY)
    noted = {position: digest_at(conn, position) or b"" for position in (6, 17, 25)}
    exported = export()
    files = exported.manifest.files
    path = exported.folder / files[1].name
    path.write_bytes(path.read_bytes().replace(b'"actor":"anonymous"', b'"actor":"somebody!"', 1))
    hashed = msgspec.structs.replace(files[1], sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    manifest.save(exported.folder, msgspec.structs.replace(exported.manifest, files=[files[0], hashed, files[2]]))

    _, findings = verified(ExportedLog(exported.folder))
    assert findings == [("export-damaged", files[1].name)]

    chained = list(files)
    digest = bytes.fromhex(files[0].digest)
    for number in (1, 2):
        before = digest
        for line in (exported.folder / files[number].name).read_bytes().splitlines():
            digest = seal(digest, line)
        made = {"digest_before": before.hex(), "digest": digest.hex()}
        chained[number] = msgspec.structs.replace((files[0], hashed, files[2])[number], **made)
    manifest.save(exported.folder, msgspec.structs.replace(exported.manifest, files=chained))
    assert verified(ExportedLog(exported.folder))[1] == []  # nobody could tell
    assert verified(ExportedLog(exported.folder), noted)[1] == [("not-as-noted", 17), ("not-as-noted", 25)]


def test_an_export_of_a_log_that_was_changed_is_not_as_it_should_be(
    ledger: Ledger, export: Callable[..., ExportedLog], tamper: Tamper
):
    given(ledger, *VARIED_HISTORY)
    tamper(
        "UPDATE stored_events SET state = convert_to(replace(convert_from(state, 'UTF8'), 'anonymous', 'somebody!'),"
        " 'UTF8') WHERE notification_id = 13"
    )
    exported = export()

    assert verified(exported)[1] == [("export-damaged", exported.manifest.files[1].name)]


def test_the_program_that_the_documentation_shows_makes_the_same_digest(
    ledger: Ledger, export: Callable[..., ExportedLog]
):
    given(ledger, *VARIED_HISTORY)
    exported = export()
    text = (Path(__file__).parents[3] / "docs/auditing.md").read_text()
    (program,) = [shown for shown in re.findall("```python\n(.*?)```", text, re.DOTALL) if "hashlib" in shown]
    lines = b"".join((exported.folder / file.name).read_bytes() for file in exported.manifest.files)

    shown = subprocess.run([sys.executable, "-c", program], input=lines, capture_output=True, check=True).stdout

    assert shown.decode().strip() == f"25:{exported.manifest.files[-1].digest}"
