"""A primary and a synchronous standby: whatever was answered with success outlives a failover, repeats too."""

import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest

from ledger.commands import Key
from ledger.engine import committer
from ledger.engine.ledger import Ledger
from ledger.errors import LedgerError
from ledger.outcome import Outcome
from ledger.rooms import ROOMS
from ledger.stock.commands import AddStock, PutFungible
from ledger.store.embedded.binaries import find_binaries
from ledger.store.embedded.os_user import account_for, run, spawn
from ledger.store.embedded.server import EmbeddedPostgres
from ledger.store.log import read
from ledger.store.migrate import migrate
from projections.inline import InlineReadModels
from tests.service import data_folder

LIMIT_SECONDS = 60.0
CUTS = 50
# How the wait of a COMMIT for its standby ends: its backend is ended, its statement is cancelled.
WAYS = ("pg_terminate_backend", "pg_cancel_backend")
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'stockledger committer'"


class Standby:
    """A streaming standby of a primary, which may be stopped from taking what it is sent, and promoted."""

    def __init__(self, primary: EmbeddedPostgres) -> None:
        self._account, self._programs = account_for(primary.data_dir / "pg"), find_binaries().bin_dir
        self.folder = data_folder()
        shutil.chown(self.folder, self._account.uid, self._account.gid)
        copied = self.folder / "pg"
        named = f"--dbname={primary.url}&application_name=standby"
        backup = ["--checkpoint=fast", "--no-sync", "--write-recovery-conf", named]
        status, printed = run([self._programs / "pg_basebackup", "-D", copied, *backup], self._account, self.folder)
        assert status == 0, printed
        settings = [f"unix_socket_directories={self.folder}", "listen_addresses=", "max_connections=200", "fsync=off"]
        options = [word for setting in settings for word in ("-c", setting)]
        with (self.folder / "log").open("wb") as log:
            command = [self._programs / "postgres", "-D", copied, *options]
            self.server = spawn(command, self._account, self.folder, signal.SIGINT, log)
        self.url = f"postgresql://stockledger@/stockledger?host={str(self.folder).replace('/', '%2F')}&port=5432"

    def receiver(self) -> int:
        listed = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(self.server.pid)], capture_output=True, text=True, check=False
        ).stdout
        found = [int(line.split()[0]) for line in listed.splitlines() if "walreceiver" in line]
        return found[0] if found else 0

    @contextmanager
    def deaf(self) -> Iterator[None]:
        """It takes nothing that is sent meanwhile."""
        wait_until(lambda: self.receiver() > 0, "the standby receives")
        receiver = self.receiver()
        os.kill(receiver, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(receiver, signal.SIGCONT)

    def promote(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            assert conn.execute("SELECT pg_promote(true, 60)").fetchone() == (True,)

    def stop(self) -> None:
        self.server.send_signal(signal.SIGINT)
        self.server.wait(LIMIT_SECONDS)
        shutil.rmtree(self.folder)


def wait_until(is_so, what: str) -> None:
    until = time.monotonic() + LIMIT_SECONDS
    while not is_so():
        assert time.monotonic() < until, what
        time.sleep(0.01)


@pytest.fixture
def pair() -> Iterator[tuple[EmbeddedPostgres, Standby]]:
    folder = data_folder()
    settings = {"fsync": "off", "full_page_writes": "off", "wal_sender_timeout": "60s"}
    with EmbeddedPostgres.start(folder, settings=settings) as primary:
        migrate(primary.url, "ledger")
        standby = Standby(primary)
        try:
            with psycopg.connect(primary.url, autocommit=True) as admin:
                admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
                admin.execute("SELECT pg_reload_conf()")
                is_synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
                wait_until(lambda: admin.execute(is_synchronous).fetchone() == (1,), "the standby is synchronous")
            yield primary, standby
        finally:
            standby.stop()
    shutil.rmtree(folder)


def cut_waits(url: str, way: str, stop: threading.Event) -> None:
    """End every wait for the standby as soon as it is seen."""
    with psycopg.connect(url, autocommit=True) as admin:
        while not stop.wait(0.02):
            admin.execute(f"SELECT {way}(pid) FROM ({WAITING}) AS waiting")


def test_nothing_that_was_answered_is_lost_when_waits_are_cut_off_and_the_standby_takes_over(
    pair: tuple[EmbeddedPostgres, Standby], monkeypatch: pytest.MonkeyPatch
):
    primary, standby = pair
    monkeypatch.setattr(committer, "RESOLVE_SECONDS", 0.4)
    ledger = Ledger(primary.url, "ledger", ROOMS, InlineReadModels())
    ledger.handle(PutFungible(sku="A"))
    answered: set[str] = set()
    refused = 0
    for number in range(CUTS):
        command = keyed(number)
        stop = threading.Event()
        cutter = threading.Thread(target=cut_waits, args=(primary.url, WAYS[number % 2], stop))
        with standby.deaf():
            cutter.start()
            for _ in range(2):  # the first try, and its repeat with the same key
                try:
                    if isinstance(ledger.handle(command), Outcome):
                        answered.add(command.request_id)
                except LedgerError:
                    refused += 1
            stop.set()
            cutter.join()
    lost_at = read_names(primary.url)
    primary.stop()
    standby.promote()

    kept = read_names(standby.url)
    ledger.close()
    assert answered <= kept
    assert refused >= CUTS, "while the standby is deaf, nobody is told that anything is recorded"
    assert len(lost_at) > 1, "the primary alone showed more"


def test_a_repeat_is_answered_once_the_standby_has_it(
    pair: tuple[EmbeddedPostgres, Standby], monkeypatch: pytest.MonkeyPatch
):
    primary, standby = pair
    monkeypatch.setattr(committer, "RESOLVE_SECONDS", 0.4)
    ledger = Ledger(primary.url, "ledger", ROOMS, InlineReadModels())
    ledger.handle(PutFungible(sku="A"))
    with standby.deaf():
        stop = threading.Event()
        cutter = threading.Thread(target=cut_waits, args=(primary.url, WAYS[0], stop))
        cutter.start()
        with pytest.raises(LedgerError):
            ledger.handle(keyed(1))
        stop.set()
        cutter.join()

    again = None
    until = time.monotonic() + LIMIT_SECONDS
    while again is None and time.monotonic() < until:
        with suppress(LedgerError):
            again = ledger.handle(keyed(1))
    ledger.close()
    assert again is not None and again.replayed
    primary.stop()
    standby.promote()
    assert keyed(1).request_id in read_names(standby.url)


def keyed(number: int) -> AddStock:
    name = f"add-{number}"
    return AddStock(sku="A", quantity=1, request_id=name, key=Key(name, uuid.uuid5(uuid.NAMESPACE_OID, name).bytes * 2))


def read_names(url: str) -> set[str]:
    """The requests whose facts are in the log."""
    with psycopg.connect(url, options="-c search_path=ledger") as conn:
        return {entry.event.request_id for entry in read(conn, 0)}


def test_without_standbys_nothing_waits(service_url: str, schema: str, ledger: Ledger):
    ledger.handle(PutFungible(sku="A"))
    ledger.handle(keyed(1))

    assert ledger.handle(keyed(1)).replayed
