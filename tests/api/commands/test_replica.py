"""What only reads works on a read replica of PostgreSQL; what writes says that it cannot."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.cli import main
from ledger.engine.ledger import Ledger
from ledger.stock.commands import PutFungible
from ledger.store.connection import READ_ONLY_OPTION, Connection, connect
from ledger.store.embedded.binaries import find_binaries
from ledger.store.embedded.os_user import account_for, run, spawn
from tests.service import data_folder

LIMIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def replica_url(postgres_url: str) -> Iterator[str]:
    """A streaming replica of the session's server, which has to be one whose files are here."""
    with psycopg.connect(postgres_url) as primary:
        (data,) = primary.execute("SHOW data_directory").fetchone() or ("",)
    if not Path(data).exists():
        pytest.skip("the server of TEST_DATABASE_URL is not on this machine")
    account, programs, folder = account_for(Path(data)), find_binaries().bin_dir, data_folder()
    try:
        shutil.chown(folder, account.uid, account.gid)
        copied, socket = folder / "pg", conninfo_to_dict(postgres_url)
        backup = ["--checkpoint=fast", "--no-sync", "--write-recovery-conf", f"--dbname={postgres_url}"]
        status, printed = run([programs / "pg_basebackup", "-D", copied, *backup], account, folder)
        assert status == 0, printed
        settings = [f"unix_socket_directories={folder}", "listen_addresses=", "max_connections=200", "fsync=off"]
        options = [word for setting in settings for word in ("-c", setting)]
        with (folder / "log").open("wb") as log:
            server = spawn([programs / "postgres", "-D", copied, *options], account, folder, signal.SIGINT, log)
        try:
            url = make_conninfo(postgres_url, host=str(folder), port=socket.get("port", "5432"))
            yield _as_url(_when_it_answers(url, server))
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(LIMIT_SECONDS)
    finally:
        shutil.rmtree(folder)


def _when_it_answers(conninfo: str, server: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < until and server.poll() is None:
        with suppress(psycopg.OperationalError), psycopg.connect(conninfo):
            return conninfo
        time.sleep(0.02)
    raise AssertionError("the replica does not answer")


def _as_url(conninfo: str) -> str:
    parts = conninfo_to_dict(conninfo)
    return f"postgresql://{parts['user']}@/{parts['dbname']}?host={parts['host']}&port={parts['port']}"


@pytest.fixture
def replica(replica_url: str, conn: Connection, schema: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ledger as the replica has it, with two facts; the commands use it."""
    ledger.handle(PutFungible(sku="A", amount_in_stock=3))
    (there,) = conn.execute("SELECT pg_current_wal_lsn()").fetchone() or ()
    with psycopg.connect(replica_url, autocommit=True) as standby:
        until = time.monotonic() + LIMIT_SECONDS
        while standby.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [there]).fetchone() != (True,):
            assert time.monotonic() < until, "the replica does not follow"
            time.sleep(0.02)
        assert standby.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
    monkeypatch.setenv("DATABASE_URL", replica_url)
    monkeypatch.setenv("STOCKLEDGER_SCHEMA", schema)
    return replica_url


def test_what_only_reads_reads_from_a_replica(replica: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["position"] == 2
    assert main(["history", "A", "--json"]) == 0
    assert [entry["position"] for entry in json.loads(capsys.readouterr().out)["items"]] == [1, 2]
    assert main(["verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"] == 2
    assert main(["export", str(tmp_path / "log")]) == 0
    for report in (["stock"], ["stock", "--at-position", "2"], ["movements"], ["reservations"], ["valuation"]):
        assert main(["report", *report]) == 0
    assert "A,,fungible,3,0,3,0,0" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["migrate"], ["expire"], ["follow"], ["rebuild"]])
def test_what_writes_refuses_a_replica_in_a_line(replica: str, command: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(command) == 1
    assert "stockledger: the database takes no writes" in capsys.readouterr().err


def test_reading_never_migrates(
    postgres_url: str,
    schema: str,
    conn: Connection,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    monkeypatch.setenv("STOCKLEDGER_SCHEMA", schema)
    conn.execute("DELETE FROM schema_migrations WHERE version = 1")

    for command in (["status"], ["history", "A"], ["report", "stock"]):
        assert main(command) == 1
        assert "is not migrated" in capsys.readouterr().err
    assert conn.execute("SELECT count(*) FROM schema_migrations WHERE version = 1").fetchone() == (0,)


@pytest.mark.parametrize("attributes", ["read-write", "primary", "any", "prefer-standby"])
def test_what_only_reads_takes_a_url_with_several_hosts(
    attributes: str,
    replica: str,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    """As a failover setup gives it: whichever of the hosts is what the URL asks for."""
    primary, standby = conninfo_to_dict(postgres_url), conninfo_to_dict(replica)
    hosts = f"host={standby['host']},{primary['host']}&port={standby['port']},{primary['port']}"
    url = f"postgresql://{primary['user']}@/{primary['dbname']}?{hosts}&target_session_attrs={attributes}"
    monkeypatch.setenv("DATABASE_URL", url)

    commands = (["verify"], ["status"], ["report", "stock"], ["history", "A"], ["export", str(tmp_path / "log")])
    assert {words[0]: main(words) for words in commands} == dict.fromkeys([words[0] for words in commands], 0)
    assert "read-only" not in capsys.readouterr().err


def test_a_session_that_only_reads_cannot_write(replica: str, postgres_url: str, schema: str):
    url = f"{postgres_url}&options={quote(READ_ONLY_OPTION)}"
    with connect(url, schema) as conn, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        conn.execute("CREATE TABLE written ()")
