"""Every command of the host on ledgers drawn at random: empty, quiet and written to, whatever fact is last.

STOCKLEDGER_DRAWN_LEDGERS=200 python -m pytest tests/api/commands/test_every_command.py draws so many, and runs every
command on each; without it a few are drawn, and each command meets each kind of last fact.
"""

import os
import random
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from api import cli
from api.cli import COMMANDS, DEFECT_STATUS, main
from ledger.engine.ledger import Ledger
from ledger.errors import LedgerError
from ledger.events import EVENTS
from ledger.rooms import ROOMS
from ledger.stock.commands import AddStock
from ledger.store import roles
from ledger.store.migrate import migrate
from projections.following.projection_runner import Follower
from projections.inline import InlineReadModels
from projections.rebuilding.rebuild import NAMES
from projections.reporting import queries
from tests.api.commands.drawn import KINDS, PIECE, STOCK, THING, fill

ASKED = int(os.environ.get("STOCKLEDGER_DRAWN_LEDGERS", "0"))
SEED = int(os.environ.get("STOCKLEDGER_DRAWN_SEED", "11"))
REPORTS = ("stock", "movements", "reservations", "shortages", "valuation")
# What is run in each turn: with few ledgers the turns are spread over them, so that each command meets each last fact.
TURNS: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("rebuild",), ("rebuild", "--check"), ("verify",)),
    (*(("rebuild", name) for name in NAMES[:4]), ("status",), ("status", "--json")),
    (*(("rebuild", name) for name in NAMES[4:]), ("verify", "--json"), ("keys", "list")),
    (
        *(("report", name, "--format", form) for name in REPORTS for form in ("csv", "json")),
        *(("report", name, "--out", f"{{folder}}/{name}.parquet") for name in REPORTS),
    ),
    (
        ("history", STOCK),
        ("history", STOCK, "--json"),
        ("history", THING, PIECE),
        ("export", "{folder}/ndjson"),
        ("export", "{folder}/parquet", "--format", "parquet", "--chunk", "7"),
        ("export", "{folder}/ndjson"),
        ("verify", "--from-export", "{folder}/ndjson"),
        ("verify", "--from-export", "{folder}/parquet", "--json"),
        ("import", "{folder}/products.csv", "--dry-run"),
        ("import", "{folder}/products.csv"),
        ("import", "{folder}/movements.ndjson", "--opening"),
        ("migrate",),
        ("verify",),
    ),
)


@pytest.fixture(scope="module")
def template(postgres_url: str) -> Iterator[str]:
    """A database with a migrated ledger, of which each drawn one is a copy."""
    name = f"template_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        migrate(_url(postgres_url, name), "stockledger", queries.ensure)
        yield name
        admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def _url(postgres_url: str, name: str) -> str:
    parts = conninfo_to_dict(postgres_url)
    return f"postgresql://{parts['user']}@/{name}?host={parts['host']}&port={parts['port']}"


@contextmanager
def copy_of(template: str, postgres_url: str) -> Iterator[str]:
    name = f"drawn_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        try:
            yield _url(postgres_url, name)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def written_to(ledger: Ledger, follower: Follower, *, writing: bool) -> Iterator[None]:
    """While commands run, somebody writes, and the follower follows as it does in a service."""
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.01):
            with suppress(LedgerError):
                ledger.handle(AddStock(sku=STOCK, quantity=1))
            follower.step()

    thread = threading.Thread(target=write)
    if writing:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if writing:
            thread.join()


def ledgers() -> Iterator[tuple[str | None, bool, tuple[tuple[str, ...], ...]]]:
    """For each: the kind of its last fact, whether it is written to, and the commands."""
    kinds = (None, *KINDS)
    everything = tuple(command for turn in TURNS for command in turn)
    if ASKED:
        for number in range(ASKED):
            yield kinds[number % len(kinds)], number // len(kinds) % 2 == 1, everything
        return
    for number, kind in enumerate(kinds):
        yield kind, False, everything
        yield kind, True, TURNS[number % len(TURNS)]


@contextmanager
def opened(url: str) -> Iterator[tuple[Ledger, Follower]]:
    service_url = roles.service_url(url, "stockledger")
    ledger = Ledger(service_url, "stockledger", ROOMS, InlineReadModels())
    follower = Follower(service_url, "stockledger")
    try:
        yield ledger, follower
    finally:
        ledger.close()
        follower.close()


def follow(follower: Follower) -> None:
    """To the log's end: a rebuild waits for whoever follows."""
    while not follower.step():
        pass


def files_to_import(folder: Path) -> None:
    folder.mkdir()
    (folder / "products.csv").write_text("sku,name,amount_in_stock\nnew 1,é €,5\nnew 2,,0\n", encoding="utf-8")
    (folder / "movements.ndjson").write_text('{"sku": "new 1", "quantity": 3}\n{"sku": "new 2", "quantity": -2}\n')


def test_every_command_works_on_every_ledger(
    template: str,
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    met: Counter[tuple[str, str | None]] = Counter()
    lasts: Counter[str] = Counter()
    for number, (last, writing, commands) in enumerate(ledgers()):
        folder = tmp_path / str(number)
        files_to_import(folder)
        with copy_of(template, postgres_url) as url, opened(url) as (ledger, follower):
            monkeypatch.setenv("DATABASE_URL", url)
            fill(ledger, chance, last)
            follow(follower)
            if last is not None:
                lasts[last_event(url)] += 1
            with written_to(ledger, follower, writing=writing):
                for words in commands:
                    run = [word.format(folder=folder) if "{" in word else word for word in words]
                    capsys.readouterr()
                    status = main(run)
                    told = capsys.readouterr()
                    expected = 1 if words[0] == "history" and last is None else 0
                    assert status == expected, (number, last, writing, run, told.out, told.err)
                    met[words[0], last] += 1
                    if words[0] == "import" and not writing:
                        follow(follower)

    assert set(lasts) == set(EVENTS), "every kind of fact was last at least once"
    assert {name for name, _ in met} == {words[0] for turn in TURNS for words in turn}
    assert all(met[name, kind] for name, _ in met for kind in (None, *KINDS)), "each command met each last fact"


def last_event(url: str) -> str:
    with psycopg.connect(url) as conn:
        text = "SELECT topic FROM stockledger.stored_events ORDER BY notification_id DESC LIMIT 1"
        (name,) = conn.execute(text).fetchone() or ("",)
    return str(name)


def test_a_rebuild_of_a_quiet_ledger_whose_last_fact_is_a_hold(
    template: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with copy_of(template, postgres_url) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        with opened(url) as (ledger, follower):
            fill(ledger, random.Random(1), "StockReserved")
            follow(follower)

        assert main(["rebuild"]) == 0

    assert "live equals rebuilt" in capsys.readouterr().out


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_a_command_that_meets_a_defect_says_so_in_a_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    def broken(*_: object) -> int:
        raise ZeroDivisionError("nobody foresaw it")

    words = {"report": ["stock"], "history": ["A"], "import": ["x.csv"], "export": ["x"], "keys": ["list"]}
    changed = tuple(command._replace(run=broken) for command in COMMANDS)
    monkeypatch.setattr(cli, "COMMANDS", changed)
    monkeypatch.setattr("api.telemetry.logs.configure", lambda *_: None)

    assert main([name, *words.get(name, [])]) == DEFECT_STATUS

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"stockledger: {name} met a defect of its own (ZeroDivisionError)")
    assert "report it" in line
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.exc_info is not None and record.exc_info[0] is ZeroDivisionError
