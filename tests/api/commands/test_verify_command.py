"""`stockledger verify` and `stockledger export` as an operator types them: exit status, text and JSON."""

import json
from pathlib import Path

import pytest

from api.cli import main
from ledger.engine.ledger import Ledger
from ledger.stock.commands import AddStock, PutFungible
from ledger.store.connection import Connection


@pytest.fixture(autouse=True)
def _settings(postgres_url: str, schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    monkeypatch.setenv("STOCKLEDGER_SCHEMA", schema)


@pytest.fixture
def three(ledger: Ledger) -> None:
    """Three entries: A is registered, gets 10 and gets 5."""
    ledger.handle(PutFungible(sku="A", amount_in_stock=10))
    ledger.handle(AddStock(sku="A", quantity=5))


def tamper(conn: Connection) -> None:
    conn.execute("UPDATE stock_levels SET on_hand = 16")


@pytest.mark.usefixtures("three")
def test_a_ledger_as_it_should_be_ends_with_0(capsys: pytest.CaptureFixture[str]):
    assert main(["verify"]) == 0

    said = capsys.readouterr()
    assert said.out.startswith("3 events up to position 3 replayed in ")
    assert "compared: products 1, stock_levels 1, items 0" in said.out
    assert said.out.endswith("all is as it should be\n")
    assert said.err == ""  # no terminal, no progress bar


@pytest.mark.usefixtures("three")
def test_a_ledger_that_is_not_ends_with_1_and_says_where(capsys: pytest.CaptureFixture[str], conn: Connection):
    tamper(conn)

    assert main(["verify"]) == 1
    said = capsys.readouterr().out
    assert said.startswith(
        "row-differs: table stock_levels, sku A, column on_hand, position 3, stock/main/A: expected 15; found 16\n"
    )
    assert said.endswith("NOT as it should be: row-differs 1\n")


@pytest.mark.usefixtures("three")
def test_json_is_one_object(capsys: pytest.CaptureFixture[str], conn: Connection):
    tamper(conn)

    assert main(["verify", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["entries"], said["counts"]) == (False, 3, {"row-differs": 1})
    assert said["findings"] == [
        {
            "kind": "row-differs",
            "expected": "15",
            "found": "16",
            "position": 3,
            "stream": "stock/main/A",
            "table": "stock_levels",
            "key": {"sku": "A"},
            "column": "on_hand",
        }
    ]


@pytest.mark.usefixtures("three")
def test_a_digest_that_was_noted_is_expected(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    noted = f"{status['position']}:{status['digest']}"
    assert main(["verify", "--expect", noted]) == 0
    assert f"sealed: position 3 has digest {status['digest']}\n" in capsys.readouterr().out
    assert main(["export", str(tmp_path)]) == 0
    assert main(["verify", "--from-export", str(tmp_path), "--expect", noted.upper()]) == 0
    capsys.readouterr()

    assert main(["verify", "--json", "--expect", noted, "--expect", f"2:{status['digest']}"]) == 1

    said = json.loads(capsys.readouterr().out)
    assert said["digest"] == status["digest"]
    assert said["counts"] == {"not-as-noted": 1}
    assert said["findings"][0]["position"] == 2


@pytest.mark.usefixtures("three")
def test_an_export_is_verified_without_a_database(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert main(["export", str(tmp_path / "new" / "e")]) == 0
    assert capsys.readouterr().out.endswith("3 events, positions 1 to 3, in 1 file\n")
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")

    assert main(["verify", "--from-export", str(tmp_path / "new" / "e")]) == 0
    assert main(["verify", "--from-export", str(tmp_path / "new" / "e" / "manifest.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["entries"] == 3

    file = next((tmp_path / "new" / "e").glob("*.ndjson"))
    file.write_bytes(file.read_bytes().replace(b"anonymous", b"somebody!", 1))

    assert main(["verify", "--from-export", str(tmp_path / "new" / "e")]) == 1
    assert f"export-damaged: {file.name}: expected SHA-256" in capsys.readouterr().out


@pytest.mark.usefixtures("three")
def test_a_part_of_the_log_says_that_it_is_not_replayed(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["export", str(tmp_path), "--from", "2", "--to", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["first"] == 2

    assert main(["verify", "--from-export", str(tmp_path)]) == 0
    assert "cannot be replayed alone" in capsys.readouterr().out


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "--show", "0"],
        ["verify", "--expect", "3"],
        ["verify", "--expect", f"0:{'0' * 64}"],
        ["verify", "--expect", f"3:{'g' * 64}"],
        ["export"],
        ["export", "x", "--chunk", "0"],
        ["export", "x", "--from", "-1"],
        ["export", "x", "--format", "xml"],
    ],
)
def test_bad_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    capsys.readouterr()


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["verify", "--from-export", "nowhere"], 1, "no manifest.json"),
        (["export", "x", "--from", "3", "--to", "2"], 2, "must not be before"),
        (["export", "x", "--to", "4"], 1, "ends with position 3"),
        (["export", "x", "--from", "5"], 1, "ends with position 3"),
        (["export", "/proc/x"], 1, "cannot be written to"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    arguments: list[str],
    status: int,
    why: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)

    assert main(arguments) == status
    said = capsys.readouterr().err
    assert why in said
    assert len(said.splitlines()) == 1


def test_a_schema_without_a_ledger_is_left_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, conn: Connection
):
    monkeypatch.setenv("STOCKLEDGER_SCHEMA", "nobodys_ledger")

    assert main(["verify"]) == 1
    assert "is not migrated" in capsys.readouterr().err
    assert conn.execute("SELECT FROM pg_namespace WHERE nspname = 'nobodys_ledger'").fetchall() == []
