"""Exports: whole or not there, the same bytes whoever makes them, gone on with, and never silently another's."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.audit.findings import Findings
from ledger.engine.ledger import Ledger
from ledger.export.files import read_file
from ledger.export.manifest import MANIFEST, ExportError, load
from ledger.export.reading import ExportedLog
from ledger.export.writing import Export, locked
from ledger.stock.commands import AddStock, PutFungible
from ledger.store.connection import Connection, connect
from ledger.store.entry_lines import to_line
from ledger.store.log import read_stored

Exporting = Callable[..., Export]


@pytest.fixture
def exporting(service_url: str, schema: str, tmp_path: Path) -> Exporting:
    """Make or resume an export of the entries up to `to`, in files of 4."""

    def run(to: int, *, first: int = 1, file_format: str = "ndjson", moved: Callable[[int], None] = lambda _: None):
        export = Export(lambda: connect(service_url, schema), schema, tmp_path, file_format, first)
        export.resume()
        export.run(to, 4, moved)
        return export

    return run


@pytest.fixture
def ten(ledger: Ledger) -> None:
    """Ten entries."""
    ledger.handle(PutFungible(sku="\u00e9", amount_in_stock=1, reason="a\nb"))
    for number in range(8):
        ledger.handle(AddStock(sku="\u00e9", quantity=1, request_id=str(number)))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.usefixtures("ten")
def test_files_hold_the_lines_of_the_log_and_the_manifest_says_which(
    exporting: Exporting, conn: Connection, tmp_path: Path, schema: str
):
    exporting(10)

    entries = read_stored(conn, 0)
    names = ["events-000000000001-000000000004", "events-000000000005-000000000008", "events-000000000009-000000000010"]
    held = contents(tmp_path)
    assert list(held) == [*[f"{name}.ndjson" for name in names], MANIFEST]
    assert b"".join(held[f"{name}.ndjson"] for name in names) == b"".join(to_line(entry) + b"\n" for entry in entries)
    manifest = json.loads(held[MANIFEST])
    assert {name: manifest[name] for name in ("ledger", "first", "last", "count", "events", "format_version")} == {
        "ledger": schema,
        "first": 1,
        "last": 10,
        "count": 10,
        "events": {"ProductRegistered.v1": 1, "StockAdded.v1": 9},
        "format_version": 1,
    }
    assert [(f["first"], f["last"], f["count"], f["bytes"], f["sha256"]) for f in manifest["files"]] == [
        (first, last, last - first + 1, len(bytes_), hashlib.sha256(bytes_).hexdigest())
        for (first, last), bytes_ in zip([(1, 4), (5, 8), (9, 10)], list(held.values())[:3], strict=True)
    ]


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize("file_format", ["ndjson", "parquet"])
def test_an_export_is_read_back_as_it_was_in_the_log(
    exporting: Exporting, conn: Connection, tmp_path: Path, file_format: str
):
    manifest = exporting(10, file_format=file_format).manifest

    entries = [e for file in manifest.files for chunk in read_file(tmp_path, file, file_format) for e in chunk]

    assert entries == read_stored(conn, 0)
    findings = Findings()
    assert ExportedLog(tmp_path).check_files(findings)
    assert findings.kept == []


@pytest.mark.usefixtures("ten")
def test_a_range_is_exported(exporting: Exporting, tmp_path: Path):
    manifest = exporting(7, first=3).manifest

    assert (manifest.first, manifest.last, manifest.count) == (3, 7, 5)
    assert [
        json.loads(line)["position"]
        for name, text in contents(tmp_path).items()
        if name != MANIFEST
        for line in text.splitlines()
    ] == [3, 4, 5, 6, 7]


@pytest.mark.usefixtures("ten")
def test_an_export_goes_on_where_it_was(exporting: Exporting, tmp_path: Path):
    exporting(6)
    before = contents(tmp_path)

    manifest = exporting(10).manifest

    assert [(file.first, file.last) for file in manifest.files] == [(1, 4), (5, 6), (7, 10)]
    assert {name: text for name, text in contents(tmp_path).items() if name in before and name != MANIFEST} == {
        name: text for name, text in before.items() if name != MANIFEST
    }


@pytest.mark.usefixtures("ten")
def test_an_export_that_is_whole_is_left_as_it_is(exporting: Exporting, tmp_path: Path):
    exporting(10)
    before = contents(tmp_path)

    exporting(10)

    assert contents(tmp_path) == before


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize("file_format", ["ndjson", "parquet"])
@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_an_export_that_was_stopped_ends_up_the_same(
    exporting: Exporting, tmp_path: Path, file_format: str, stop_after: int
):
    """After the first entries of a file were written, in the first, second and third file."""
    moves = []

    def stop(by: int) -> None:
        moves.append(by)
        if len(moves) == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exporting(10, file_format=file_format, moved=stop)
    found = load(tmp_path)
    assert (found.last if found else 0) == 4 * (stop_after - 1)
    (tmp_path / f"events-000000000009-000000000010.{file_format}").write_bytes(b"named, but not in the manifest")
    (tmp_path / f"events-000000000005-000000000008.{file_format}.partial").write_bytes(b"half a")

    manifest = exporting(10, file_format=file_format).manifest

    findings = Findings()
    exported = ExportedLog(tmp_path)
    assert exported.check_files(findings)
    assert [entry.position for chunk in exported.chunks(findings) for entry in chunk] == list(range(1, 11))
    assert {path.name for path in tmp_path.iterdir()} == {MANIFEST, *[file.name for file in manifest.files]}


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize("byte", [0, 100, -2])
def test_a_byte_that_was_changed_in_a_file_is_found(exporting: Exporting, tmp_path: Path, byte: int):
    manifest = exporting(10).manifest
    path = tmp_path / manifest.files[1].name
    text = bytearray(path.read_bytes())
    text[byte] ^= 1
    path.write_bytes(text)
    findings = Findings()

    assert not ExportedLog(tmp_path).check_files(findings)
    assert [(f.kind, f.file) for f in findings.kept] == [("export-damaged", path.name)]
    with pytest.raises(ExportError, match="SHA-256"):
        exporting(10)


@pytest.mark.usefixtures("ten")
def test_a_file_that_is_gone_or_cut_is_found(exporting: Exporting, tmp_path: Path):
    manifest = exporting(10).manifest
    (tmp_path / manifest.files[0].name).unlink()
    (tmp_path / manifest.files[1].name).write_bytes(b"")
    findings = Findings()

    assert not ExportedLog(tmp_path).check_files(findings)
    assert [(f.file, f.found) for f in findings.kept] == [
        (manifest.files[0].name, "No such file or directory"),
        (manifest.files[1].name, "0 bytes"),
    ]


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format_version": 2}, "not of"),
        ({"last": 11}, "range"),
        ({"events": {}}, "how many"),
        ({"surprise": 1}, "surprise"),
        ({"count": "10"}, "count"),
    ],
)
def test_a_manifest_that_cannot_be_meant_is_refused(exporting: Exporting, tmp_path: Path, change, why: str):
    exporting(10)
    manifest = json.loads((tmp_path / MANIFEST).read_bytes())
    (tmp_path / MANIFEST).write_text(json.dumps(manifest | change))

    with pytest.raises(ExportError, match=why):
        ExportedLog(tmp_path)


@pytest.mark.usefixtures("ten")
def test_a_manifest_leads_nowhere_but_into_its_folder(exporting: Exporting, tmp_path: Path):
    exporting(10)
    text = (tmp_path / MANIFEST).read_text()
    (tmp_path / MANIFEST).write_text(text.replace("events-000000000001-000000000004.ndjson", "../../etc/passwd"))

    with pytest.raises(ExportError, match="which no export makes"):
        ExportedLog(tmp_path)


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize("other", [{"first": 2}, {"file_format": "parquet"}])
def test_a_folder_with_another_export_is_left_alone(exporting: Exporting, tmp_path: Path, other):
    exporting(6)
    before = contents(tmp_path)

    with pytest.raises(ExportError, match="name another folder"):
        exporting(10, **other)
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("ten")
def test_a_folder_with_somebodys_files_is_left_alone(exporting: Exporting, tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(ExportError, match="empty folder"):
        exporting(10)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


@pytest.mark.usefixtures("ten")
def test_an_export_that_the_log_no_longer_goes_on_from_is_refused(
    exporting: Exporting, tmp_path: Path, conn: Connection
):
    exporting(6)
    conn.execute("ALTER TABLE stored_events DISABLE TRIGGER ALL")
    conn.execute("UPDATE stored_events SET recorded_at = '2000-01-01' WHERE notification_id = 6")

    with pytest.raises(ExportError, match="another entry at position 6"):
        exporting(10)


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize("position", [1, 4, 6, 10])
def test_a_log_with_a_gap_is_not_exported_as_whole(exporting: Exporting, conn: Connection, position: int):
    conn.execute("ALTER TABLE stored_events DISABLE TRIGGER ALL")
    conn.execute("DELETE FROM stored_events WHERE notification_id = %s", [position])

    with pytest.raises(ExportError, match="gap"):
        exporting(10)


@pytest.mark.usefixtures("ten")
def test_only_one_exports_into_a_folder(tmp_path: Path):
    with locked(tmp_path), pytest.raises(ExportError, match="another process"), locked(tmp_path):
        pass


@pytest.mark.usefixtures("ten")
def test_without_pyarrow_parquet_says_what_to_install(exporting: Exporting, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ExportError, match=r"stockledger\[parquet\]"):
        exporting(10, file_format="parquet")


def test_an_empty_log_is_an_export_of_nothing(exporting: Exporting, tmp_path: Path):
    exporting(0)

    exported = ExportedLog(tmp_path)
    assert (exported.manifest.count, exported.manifest.files) == (0, [])
