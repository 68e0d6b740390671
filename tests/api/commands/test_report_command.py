"""`stockledger report`: the same reports as files."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pyarrow import parquet

from api.cli import main
from ledger.catalogue.commands import ProductChanges
from ledger.engine.ledger import Ledger
from ledger.items.commands import ItemChanges, PutItem
from ledger.stock.commands import PutFungible
from projections.reporting import report_reader

Report = Callable[..., int]


@pytest.fixture
def report(postgres_url: str, schema: str) -> Report:
    place = ["--database-url", postgres_url, "--schema", schema]
    return lambda *arguments: main(["report", *map(str, arguments), *place])


@pytest.fixture(autouse=True)
def stocked(ledger: Ledger) -> None:
    most = 2**53 - 1
    prices = ProductChanges(name="=much", unit_price_cents=most)
    ledger.handle(PutFungible(sku="A", changes=prices, amount_in_stock=most))
    ledger.handle(PutItem(sku="B", sn="1", item=ItemChanges(price_cents=5), purchase_id=uuid4()))


def test_csv_goes_to_standard_output_and_what_it_reflects_beside_it(
    report: Report, capsysbinary: pytest.CaptureFixture[bytes]
):
    assert report("stock") == 0

    out, err = capsysbinary.readouterr()
    assert out.decode().splitlines()[1].startswith("A,'=much,fungible,9007199254740991,0,")
    assert b"position 4" in err
    assert b"0 events behind" in err


def test_every_form_says_the_same(report: Report, tmp_path: Path):
    for name in ("s.csv", "s.json", "s.parquet"):
        assert report("stock", "--out", tmp_path / name) == 0

    body = json.loads((tmp_path / "s.json").read_text())
    table = parquet.read_table(tmp_path / "s.parquet")
    columns = list(body["items"][0])
    with (tmp_path / "s.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == table.column_names == columns
    assert [tuple(row.values()) for row in table.to_pylist()] == [tuple(item.values()) for item in body["items"]]
    assert table["value_cents"][0].as_py() == Decimal((2**53 - 1) ** 2)
    kept = json.loads(table.schema.metadata[b"stockledger"])
    assert kept | {"time": ""} == {name: value for name, value in body.items() if name != "items"} | {"time": ""}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.csv", "s.json", "s.parquet"]


@pytest.mark.parametrize("name", ["movements", "reservations", "shortages", "valuation"])
@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_every_report_has_every_form(report: Report, tmp_path: Path, name: str, form: str):
    assert report(name, "--format", form, "--out", tmp_path / "out") == 0

    assert (tmp_path / "out").stat().st_size > 0


def test_rows_are_written_as_they_come(report: Report, tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    ledger.handle_many([PutFungible(sku=f"S{number:03}") for number in range(20)])
    monkeypatch.setattr(report_reader, "_FETCH", b"FETCH 3 FROM report")
    for name in ("s.json", "s.parquet"):
        assert report("stock", "--sku-prefix", "S", "--out", tmp_path / name) == 0

    skus = [f"S{number:03}" for number in range(20)]
    assert [item["sku"] for item in json.loads((tmp_path / "s.json").read_text())["items"]] == skus
    assert parquet.read_table(tmp_path / "s.parquet")["sku"].to_pylist() == skus


def test_the_past_can_be_asked_for(report: Report, tmp_path: Path):
    assert report("stock", "--at-position", "2", "--out", tmp_path / "s.json") == 0

    body: dict[str, Any] = json.loads((tmp_path / "s.json").read_text())
    assert [item["sku"] for item in body["items"]] == ["A"]
    assert body["position"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stock", "--from", "2026-01-01"], "--from has no meaning for the report stock"),
        (["movements", "--from", "x", "--by", "y"], "--from must be a day (UTC) such as 2026-11-22; --by must be"),
        (["stock", "--at-position", "99"], "--at-position is in the future"),
        (["stock", "--at-position", "0"], "There was nothing yet"),
        (["stock", "--format", "parquet"], "--out must name a file"),
        (["stock", "--out", "/nowhere/s.csv"], "--out cannot be written"),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_line(
    report: Report, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    assert report(*arguments) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(report_reader, "REPORT_SECONDS", 0)
    return


@pytest.mark.usefixtures("broken")
def test_a_report_that_fails_half_way_leaves_no_file(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "s.csv").write_text("yesterday's")

    assert report("stock", "--out", tmp_path / "s.csv") == 1

    assert [path.read_text() for path in tmp_path.iterdir()] == ["yesterday's"]
    assert "a report may take" in capsys.readouterr().err


def test_who_reads_no_further_is_no_error(postgres_url: str, schema: str, ledger: Ledger):
    ledger.handle_many([PutFungible(sku=f"{number:0>100}") for number in range(1_000)])  # more than a pipe holds
    command = [sys.executable, "-m", "api", "report", "stock", "--database-url", postgres_url, "--schema", schema]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(3) == b"sku"
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 1
