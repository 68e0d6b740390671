"""`stockledger import`: what rows become, what is refused and where that is told, and that each is recorded once."""

import csv
import gzip
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from api.cli import DEFECT_STATUS, main
from api.importing.files import MAX_LINE_BYTES, Source
from api.importing.rows import COLUMNS
from api.settings import SettingError
from ledger.store import imports
from ledger.store.connection import Connection, connect
from projections.rebuilding.rebuild import Rebuild
from tests.conftest import drop_ledger

ROOT = Path(__file__).parents[3]
RETAIL = ROOT / "examples" / "data" / "online-retail-2010-12-01-and-02.csv.gz"
DOCUMENT = (ROOT / "docs" / "import.md").read_text()

Run = Callable[..., int]
Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def place(postgres_url: str, schema: str) -> list[str]:
    """Arguments that name the ledger."""
    return ["--database-url", postgres_url, "--schema", schema]


@pytest.fixture
def run(place: list[str]) -> Run:
    """Runs `stockledger import` and returns its exit status."""
    return lambda *arguments: main(["import", *map(str, arguments), *place])


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file and returns its path."""

    def written(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


@pytest.fixture
def stocked(run: Run, write: Write, conn: Connection) -> int:
    """A, B and C with 100 each; returns the number of events that took."""
    run(write("stock.csv", "sku,amount_in_stock\nA,100\nB,100\nC,100\n"))
    return len(events(conn))


def levels(conn: Connection) -> dict[str, int]:
    return dict(conn.execute("SELECT sku, on_hand FROM stock_levels ORDER BY sku").fetchall())


def events(conn: Connection) -> list[tuple[str, str, dict[str, Any]]]:
    """(stream, name, members besides who did it), in order."""
    query = "SELECT originator_id, topic, convert_from(state, 'UTF8') FROM stored_events ORDER BY notification_id"
    return [
        (stream, topic, {m: v for m, v in json.loads(state).items() if m not in ("actor", "request_id")})
        for stream, topic, state in conn.execute(query).fetchall()
    ]


def rejected(folder: Path, name: str) -> list[list[str]]:
    """The rows of the file of rows rejected from `name`, its header first."""
    (path,) = folder.glob(f"{name}.*.rejects.csv")
    with path.open(newline="") as lines:
        return list(csv.reader(lines))


def differences(url: str, schema: str) -> dict[str, int]:
    """Between the read models and what the log says they should be."""
    with Rebuild(url, schema) as rebuild:
        return rebuild.differences()


def test_products_are_registered_with_their_stock(run: Run, write: Write, conn: Connection):
    text = 'sku,name,unit_price,amount_in_stock,extra\nA,"Pen, blue",1.5,7,x\nB,,0.07,,x\n C ,Cap,,0,x\n'

    assert run(write("p.csv", text)) == 0

    assert events(conn) == [
        ("product/A", "ProductRegistered.v1", {"kind": "fungible", "name": "Pen, blue", "unit_price_cents": 150}),
        ("stock/main/A", "StockAdded.v1", {"quantity": 7, "on_hand": 7, "reserved": 0}),
        ("product/B", "ProductRegistered.v1", {"kind": "fungible", "unit_price_cents": 7}),
        ("product/C", "ProductRegistered.v1", {"kind": "fungible", "name": "Cap"}),
    ]


def test_every_event_names_its_import_and_its_line(run: Run, write: Write, conn: Connection):
    run(write("p.csv", 'sku,name\nA,"two\nlines"\nB,b\n'))

    query = "SELECT convert_from(state, 'UTF8')::json ->> 'request_id' FROM stored_events ORDER BY notification_id"
    ((import_id,),) = conn.execute("SELECT import_id FROM imports").fetchall()
    assert conn.execute(query).fetchall() == [(f"import:{import_id}:2",), (f"import:{import_id}:4",)]


def test_rows_with_a_serial_number_are_items(run: Run, write: Write, conn: Connection):
    text = "sku,sn,name,notes,price,sold\nBIKE,1,Bike,red,99.95,no\nBIKE,2,Bike,,100,yes\n"

    assert run(write("i.csv", text)) == 0

    found = conn.execute("SELECT sn, notes, price_cents, sold FROM items ORDER BY sn").fetchall()
    assert found == [("1", "red", 9995, False), ("2", None, 10000, True)]


def test_compressed_ndjson_says_the_same_as_csv(run: Run, write: Write, conn: Connection):
    rows = ({"sku": "A", "unit_price": 1.10, "amount_in_stock": 5}, {"sku": "B", "name": None, "amount_in_stock": "6"})
    content = "\ufeff" + "\n\n".join(json.dumps(row) for row in rows)

    assert run(write("p.ndjson.gz", gzip.compress(content.encode()))) == 0

    assert levels(conn) == {"A": 5, "B": 6}
    assert events(conn)[0][2] == {"kind": "fungible", "unit_price_cents": 110}


def test_rows_that_say_nothing_new_become_no_events(run: Run, write: Write, conn: Connection):
    text = "sku,name,color\nA,one,\nA,one,\nA,,red\nA,two,\nA,one,red\n"

    run(write("last.csv", text))
    run(write("first.csv", text.replace("A,", "B,")), "--keep", "first")

    assert [event[1:] for event in events(conn)] == [
        ("ProductRegistered.v1", {"kind": "fungible", "name": "one"}),
        ("ProductRevised.v1", {"color": "red"}),
        ("ProductRevised.v1", {"name": "two"}),
        ("ProductRevised.v1", {"name": "one"}),
        ("ProductRegistered.v1", {"kind": "fungible", "name": "one"}),
        ("ProductRevised.v1", {"color": "red"}),
    ]


def test_movements_go_by_their_sign_or_by_their_word(run: Run, write: Write, conn: Connection, stocked: int):
    signed = write("m.csv", "sku,quantity,reason,reference\nA,5,found,\nA,-7,,INV-1\n")
    worded = write("w.csv", "sku,quantity,movement,owner,ttl_seconds\nB,5,add,,\nB,7,Remove,,\nC,9,reserve,ann,600\n")

    assert run(signed, worded) == 0

    assert levels(conn) == {"A": 98, "B": 98, "C": 100}
    assert events(conn)[stocked][2] == {"quantity": 5, "on_hand": 105, "reserved": 0, "reason": "found"}
    assert events(conn)[stocked + 1][2] == {"quantity": 7, "on_hand": 98, "reserved": 0, "reference": "INV-1"}
    query = "SELECT owner, remaining, extract(epoch FROM expires_at - created_at)::int FROM reservations"
    assert conn.execute(query).fetchall() == [("ann", 9, 600)]


def test_options_say_what_the_file_does_not(run: Run, write: Write, conn: Connection, stocked: int):
    path = write("m.csv", "Code,Qty,Day\nA,5,1\nA,-2,1\nB,5,2\nC,1,1\n")
    where = ("--where", "Day=1", "--where", "Code!=C*")

    options = ("--map", "sku=Code", "--map", "quantity=Qty", "--set", "reason=sale", "--direction", "out")
    assert run(path, *options, *where) == 0

    assert levels(conn) == {"A": 97, "B": 100, "C": 100}
    assert {members["reason"] for _, _, members in events(conn)[stocked:]} == {"sale"}


def test_opening_adds_the_least_stock_that_the_movements_need(run: Run, write: Write, conn: Connection, tmp_path: Path):
    run(write("p.csv", "sku,name\nA,a\nB,b\n"))

    assert run(write("m.csv", "sku,quantity\nA,-5\nA,3\nNONE,-1\nA,-4\nB,1\n"), "--opening") == 1

    assert [members for stream, _, members in events(conn) if stream == "stock/main/A"] == [
        {"quantity": 6, "on_hand": 6, "reserved": 0, "reason": "opening stock"},
        {"quantity": 5, "on_hand": 1, "reserved": 0},
        {"quantity": 3, "on_hand": 4, "reserved": 0},
        {"quantity": 4, "on_hand": 0, "reserved": 0},
    ]
    assert levels(conn) == {"A": 0, "B": 1}
    assert [row[1] for row in rejected(tmp_path, "m.csv")[1:]] == ["4"]


def test_rejected_rows_are_told_by_file_and_line_and_stop_nothing(
    run: Run, write: Write, conn: Connection, stocked: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    head = b"\xef\xbb\xbfsku,quantity\nA,1\nNONE,1\nB,-101\nB,x\nC,0\n"
    path = write("m.csv", head + b'A\n\xff,1\nC,1\n"C"x,1\n,1\nA/B,1\nA,2\n')

    assert run(path) == 1

    assert levels(conn) == {"A": 103, "B": 100, "C": 101}
    header, *rows = rejected(tmp_path, "m.csv")
    assert header == ["file", "line", "problem", "detail", "sku", "quantity"]
    assert [row[:3] + row[4:] for row in rows] == [
        ["m.csv", "3", "unknown-product", "NONE", "1"],
        ["m.csv", "4", "insufficient-stock", "B", "-101"],
        ["m.csv", "5", "invalid", "B", "x"],
        ["m.csv", "6", "invalid", "C", "0"],
        ["m.csv", "7", "invalid", "A"],
        ["m.csv", "8", "invalid", "\\xff", "1"],
        ["m.csv", "10", "invalid"],
        ["m.csv", "11", "invalid", "", "1"],
        ["m.csv", "12", "invalid", "A/B", "1"],
    ]
    assert rows[1][3] == "SKU 'B': 101 requested, 100 available."
    assert f"9 rows rejected, which are in {tmp_path}" in capsys.readouterr().out


def test_bad_lines_of_ndjson_are_rejected_as_they_are(run: Run, write: Write, tmp_path: Path, stocked: int):
    lines = ['{"sku": "A", "quantity": 1}', '{"sku": "A"', "[1]", '{"sku": ["A"], "quantity": 1}', '{"sku": "A"}']

    assert run(write("m.jsonl", "\n".join(lines))) == 1

    assert [(row[1], row[2], row[4]) for row in rejected(tmp_path, "m.jsonl")[1:]] == [
        (str(number), "invalid", lines[number - 1]) for number in (2, 3, 4, 5)
    ]


def test_rejected_rows_can_be_imported_once_they_are_put_right(
    run: Run, write: Write, conn: Connection, stocked: int, tmp_path: Path
):
    run(write("m.csv", "sku,quantity\nA,-101\nB,-1\n"))
    (path,) = tmp_path.glob("m.csv.*.rejects.csv")
    path.write_text(path.read_text().replace("-101", "-99"))

    assert run(path) == 0

    assert levels(conn) == {"A": 1, "B": 99, "C": 100}


def test_a_line_without_end_is_refused_and_not_kept(run: Run, write: Write, conn: Connection, tmp_path: Path):
    endless = "A,1" + ",x" * MAX_LINE_BYTES

    assert run(write("p.csv", f"sku,name\nA,a\n{endless}\nB,b\n")) == 1

    assert [row[1] for row in rejected(tmp_path, "p.csv")[1:]] == ["3"]
    assert [stream for stream, _, _ in events(conn)] == ["product/A", "product/B"]


def test_a_shortage_in_the_middle_of_a_chunk_disturbs_no_other_row(
    run: Run, write: Write, conn: Connection, postgres_url: str, schema: str, stocked: int
):
    rows = [("A", 1), ("B", -150), ("C", -1)] * 700
    text = "sku,quantity\n" + "\n".join(f"{sku},{quantity}" for sku, quantity in rows)

    assert run(write("m.csv", text), "--batch", "2000") == 1

    assert levels(conn) == {"A": 800, "B": 100, "C": 0}
    assert len(events(conn)) - stocked == 700 + 100
    assert differences(postgres_url, schema) == {}


def test_the_same_content_twice_changes_nothing(
    run: Run, write: Write, conn: Connection, stocked: int, capsys: pytest.CaptureFixture[str]
):
    text = "sku,quantity\nA,1\nB,-1\n"
    run(write("m.csv", text))
    before = events(conn)

    assert run(write("m.csv", text)) == 0
    assert run(write("other.csv.gz", gzip.compress(text.encode()))) == 0

    assert events(conn) == before
    assert capsys.readouterr().out.count("already imported") == 2
    assert run(write("m.csv", text), "--again") == 0
    assert levels(conn) == {"A": 102, "B": 98, "C": 100}


def test_a_dry_run_writes_nothing_and_asks_no_database(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = write("m.csv", "sku,quantity\nA,1\nB,x\n")

    nowhere = ["--database-url", "postgresql://nobody@localhost:1/none"]
    assert main(["import", str(path), "--dry-run", *nowhere]) == 1

    assert list(tmp_path.iterdir()) == [path]
    told = capsys.readouterr().out
    assert f"{path}:3: quantity must be an integer" in told
    assert "2 rows read as movements, 1 of them bad" in told


@pytest.mark.parametrize(
    ("name", "text", "options", "told"),
    [
        (
            "x.csv",
            "Code,quantity\nA,1\n",
            [],
            "no column says sku: name it with --map sku=COLUMN; the file has Code, q",
        ),
        ("x.ndjson", '{"Code": "A", "quantity": 1}\n', [], "no column says sku"),
        ("x.csv", "sku,Qty\nA,1\n", ["--map", "quantity=Quantity"], "there is no column 'Quantity'; the file has sku"),
        ("x.csv", "sku,sku,quantity\nA,B,1\n", [], "more than one column 'sku'"),
        ("x.csv", "sku,quantity\nA,1\n", ["--map", "colour=sku"], "there is no 'colour' among movements"),
        ("x.csv", "sku,quantity\nA,1\n", ["--keep", "first"], "--keep is not for movements"),
        ("x.csv", "sku,number\nA,1\n", [], "cannot tell what the rows are"),
        ("x.txt", "sku,quantity\nA,1\n", [], "cannot tell the format"),
        ("x.csv", "", [], "holds no rows"),
        ("x.csv", gzip.compress(b"sku,quantity\nA,1\n" * 99)[:-9], [], "cannot be decompressed"),
        ("x.csv", "sku,quantity\nA,1\n", ["--rejects", "{path}"], "holds something else"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    name: str,
    text: str | bytes,
    options: list[str],
    told: str,
    run: Run,
    write: Write,
    conn: Connection,
    capsys: pytest.CaptureFixture[str],
):
    path = write(name, text)
    first = [write("good.csv", "sku,quantity\nA,1\n")] if "--rejects" not in options else []

    assert run(*first, path, *(option.format(path=path) for option in options)) == 2

    assert told in capsys.readouterr().err
    assert conn.execute("SELECT count(*) FROM imports").fetchall() == [(0,)]


def test_a_file_that_is_still_written_to_is_not_read_on(write: Write):
    source = Source(write("m.csv", "sku,quantity\nA,1\n"), None)
    source.digest()

    with source.rows([]) as (rows, position):
        assert [row.cells for row in rows] == [["A", "1"]]
        write("m.csv", "sku,quantity\nA,1\nA,2\n")
        with pytest.raises(SettingError, match="changes while it is read"):
            position()


def test_the_documented_columns_are_those_there_are():
    documented = re.findall(r"^\| (`.*?) \|", DOCUMENT.partition("## Other")[0], re.MULTILINE)

    names = {name for cell in documented for name in re.findall(r"`(\w+)`", cell)}
    assert names == {name for columns in COLUMNS.values() for name in columns}


def test_events_are_not_recorded_unless_it_is_recorded_that_they_are(
    run: Run, write: Write, conn: Connection, stocked: int
):
    refuse = "CREATE TRIGGER refuse BEFORE UPDATE OR INSERT ON imports EXECUTE FUNCTION refuse_change()"
    conn.execute(refuse.encode())

    assert run(write("m.csv", "sku,quantity\nA,1\n")) == DEFECT_STATUS

    assert len(events(conn)) == stocked


def test_two_at_once_are_refused(
    run: Run, write: Write, postgres_url: str, schema: str, capsys: pytest.CaptureFixture[str], stocked: int
):
    path = write("m.csv", "sku,quantity\nA,1\n")
    run(path)
    with connect(postgres_url, schema) as other:
        ((import_id,),) = other.execute("SELECT import_id FROM imports ORDER BY started_at DESC LIMIT 1").fetchall()
        assert imports.claim(other, schema, import_id)

        assert run(path) == 1

    assert "another process is importing it" in capsys.readouterr().err


def test_the_retail_file_loads_by_the_documented_commands(
    run: Run, conn: Connection, postgres_url: str, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("retail.csv.gz").symlink_to(RETAIL)
    with gzip.open(RETAIL, "rt", newline="") as lines:
        rows = list(csv.DictReader(lines))

    commands = re.findall(r"^\$ stockledger import (retail\.csv\.gz .*)$", DOCUMENT, re.MULTILINE)
    assert [run(*shlex.split(command)) for command in commands] == [0, 0, 0, 0]

    # Everything that was sold or written off was there to begin with, so what came back is what is left.
    back: Counter[str] = Counter({row["StockCode"]: 0 for row in rows})
    for row in rows:
        back[row["StockCode"]] -= int(row["Quantity"]) if row["InvoiceNo"].startswith("C") else 0
    found = dict(conn.execute("SELECT p.sku, coalesce(on_hand, 0) FROM products p LEFT JOIN stock_levels USING (sku)"))
    assert found == dict(back)
    assert Counter(topic for _, topic, _ in events(conn))["StockRemoved.v1"] == sum(
        not row["InvoiceNo"].startswith("C") for row in rows
    )
    assert differences(postgres_url, schema) == {}


@contextmanager
def importing(path: Path, place: list[str], *options: str) -> Iterator[subprocess.Popen[str]]:
    """A real `stockledger import` in a process of its own."""
    command = [sys.executable, "-m", "api", "import", str(path), "--batch", "50", *options, *place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def wait_until_settled(conn: Connection, rows: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        found = conn.execute("SELECT max(settled) FROM imports WHERE finished_at IS NULL").fetchone()
        if found is not None and (found[0] or 0) >= rows:
            return
        time.sleep(0.002)
    raise AssertionError("the import does not get on")


@pytest.fixture
def many(write: Write) -> Path:
    """12,000 movements over 100 SKUs; every hundredth is of a SKU that there is not."""
    rows = [f"S{number * 7 % 100 or 'X'},{number % 9 + 1}" for number in range(12_000)]
    return write("many.csv", "sku,quantity\n" + "\n".join(rows))


@pytest.fixture
def whole(
    many: Path, run: Run, write: Write, postgres_url: str, schema: str, tmp_path: Path
) -> Iterator[tuple[dict[str, int], int, bytes]]:
    """Levels, number of events and rejected rows of an import that nothing disturbed; and products for others."""
    products = write("products.csv", "sku,name\n" + "\n".join(f"S{number},s" for number in range(1, 100)))
    other = f"{schema}_whole"
    place = ["--database-url", postgres_url, "--schema", other]
    assert main(["import", str(products), *place]) == 0
    assert main(["import", str(many), "--rejects", str(tmp_path / "whole.csv"), *place]) == 1
    with connect(postgres_url, other) as conn:
        yield levels(conn), len(events(conn)), (tmp_path / "whole.csv").read_bytes()
    drop_ledger(postgres_url, other)


def test_killed_half_way_and_run_again_it_ends_the_same(
    many: Path,
    whole: tuple[dict[str, int], int, bytes],
    run: Run,
    place: list[str],
    conn: Connection,
    postgres_url: str,
    schema: str,
    tmp_path: Path,
):
    run(tmp_path / "products.csv")

    for rows in (2_000, 6_000):
        with importing(many, place, "--rejects", str(tmp_path / "cut.csv")) as process:
            wait_until_settled(conn, rows)
            os.kill(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    assert conn.execute("SELECT count(*) FROM imports WHERE finished_at IS NULL").fetchone() == (1,)
    with (tmp_path / "cut.csv").open("a") as torn:
        torn.write("many.csv,1999")  # written, but killed before the transaction that counts it
    assert run(many, "--rejects", tmp_path / "cut.csv") == 1

    assert (levels(conn), len(events(conn)), (tmp_path / "cut.csv").read_bytes()) == whole
    assert differences(postgres_url, schema) == {}


def test_a_lost_connection_is_gone_on_from_without_being_told(
    many: Path, whole: tuple[dict[str, int], int, bytes], run: Run, place: list[str], conn: Connection, tmp_path: Path
):
    run(tmp_path / "products.csv")

    with importing(many, place, "--rejects", str(tmp_path / "cut.csv")) as process:
        wait_until_settled(conn, 4_000)
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'stockledger import'"
        assert conn.execute(cut).fetchall() == [(True,)]
        output, errors = process.communicate(timeout=30)

    assert process.returncode == 1, errors
    assert (levels(conn), len(events(conn)), (tmp_path / "cut.csv").read_bytes()) == whole
    assert "12000 rows read as movements" in output
