"""The folder that a private PostgreSQL lives in: whose it is, how it is made, and what a dead owner left in it.

    <data_dir>/stockledger.lock   held by the process that owns the server; also the mark that the folder is ours
    <data_dir>/server.lock        held by every process of the server, from the first to the last
    <data_dir>/pg/                PostgreSQL's own data
    <data_dir>/socket/            the way in, closed to other users
    <data_dir>/postgres.log       what the server says; postgres.log.1 is the part before
    <data_dir>/programs-*/        a copy of the programs, where the account cannot reach the installed ones

Nothing here starts the server; that is server.py. All but `claim_folder` and `open_lock` want the lock to be held.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ledger.store.embedded.binaries import Binaries
from ledger.store.embedded.os_user import Account, EmbeddedPostgresError, run

NAME = "stockledger"
"""The name of both the super user and the database."""
PORT = 5432
"""Only a part of the socket's file name: nothing listens on TCP."""
SHUTDOWN_STEPS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
"""What to send to a server that must end, and for how many seconds to wait: fast, immediate, and by force."""

_LOCK_NAME = "stockledger.lock"
_LONGEST_SOCKET_PATH = 107  # bytes; sun_path of <sys/un.h> less its ending
_POLL_SECONDS = 0.005


def claim_folder(data_dir: Path) -> Path:
    """Return the absolute path of a folder that is ours to use, made if it was missing.

    Raises EmbeddedPostgresError when it holds something that this module did not put there.
    """
    folder = data_dir.resolve()
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(exist_ok=True)
        missing.chmod(0o755)  # whatever the umask: the account that runs the server has to pass
    found = {entry.name for entry in folder.iterdir()} - {"lost+found"}  # A volume of its own has that one.
    if found and _LOCK_NAME not in found:
        raise EmbeddedPostgresError(
            f"{folder} is not empty and was not made by stockledger: name an empty or a new folder with "
            "STOCKLEDGER_DATA_DIR"
        )
    return folder


def open_lock(data_dir: Path) -> int:
    """Open the lock file, made if missing, which marks the folder as ours; return its descriptor, not yet locked."""
    return _open_lock_file(data_dir / _LOCK_NAME)


def _open_lock_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def take_lock(descriptor: int) -> bool:
    """Try to lock an open lock file for us alone; True when we have it, now or since before."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def refuse_unreachable(data_dir: Path, account: Account) -> None:
    """Raise EmbeddedPostgresError when `account` cannot enter the folder; we do not open other people's folders."""
    if not account.is_another:
        return
    status, _ = run(["/bin/sh", "-c", 'cd -- "$1"', "sh", data_dir], account, Path("/"))
    if status:
        raise EmbeddedPostgresError(
            f"the user with number {account.uid}, who runs PostgreSQL because root may not, cannot enter {data_dir}: "
            "name a folder with STOCKLEDGER_DATA_DIR that other users can reach, such as one under /var/lib"
        )


def prepare_cluster(data_dir: Path, binaries: Binaries, account: Account, *, durable: bool) -> Path:
    """Return the folder of PostgreSQL's data, made if missing and fit for these binaries.

    Raises EmbeddedPostgresError for data of another major version, or when it cannot be made.
    """
    for unfinished in data_dir.glob("pg.new-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    cluster = data_dir / "pg"
    if not cluster.exists():
        _create_cluster(cluster, binaries, account, durable)
    elif cluster.stat().st_uid != account.uid:  # Root's, as after restoring a backup; account_for refused the others.
        for folder, _, files in os.walk(cluster, topdown=False):  # The top comes last: a kill leaves it to be redone.
            for path in (*(os.path.join(folder, name) for name in files), folder):
                os.chown(path, account.uid, account.gid, follow_symlinks=False)
    _refuse_other_major(cluster, binaries)
    return cluster


def _create_cluster(cluster: Path, binaries: Binaries, account: Account, durable: bool) -> None:
    """Make the data in a folder beside and rename it when all is there, the database too: a kill leaves no half.

    Nothing is synced on the way, but all of it once before the rename.
    """
    fresh = Path(tempfile.mkdtemp(prefix="pg.new-", dir=cluster.parent))
    os.chown(fresh, account.uid, account.gid)
    initdb, postgres = binaries.bin_dir / "initdb", binaries.bin_dir / "postgres"
    # Collation by code point on every host, the fastest and the only one that an upgrade of libc cannot break.
    unicode = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if binaries.major >= 17 else []
    who = [f"--username={NAME}", "--auth-local=trust", "--auth-host=reject"]
    _run_step([initdb, "-D", fresh, "--no-sync", "--encoding=UTF8", "--locale=C", *unicode, *who], account)
    single: list[str | Path] = [postgres, "--single", "-F", "-c", "exit_on_error=on", "-D", fresh, "postgres"]
    _run_step(single, account, f"CREATE DATABASE {NAME}\n")
    if durable:
        _run_step([initdb, "-D", fresh, "--sync-only"], account)
    fresh.rename(cluster)
    _sync_folder(cluster.parent)


def _run_step(arguments: list[str | Path], account: Account, script: str = "") -> None:
    try:
        status, printed = run(arguments, account, Path("/"), script)
    except subprocess.TimeoutExpired as error:
        raise EmbeddedPostgresError(f"{error}: is the disk stuck?") from error
    if status:
        raise EmbeddedPostgresError(
            f"{arguments[0]} could not make a database ({telling_line(printed)}): make room or name another folder "
            "with STOCKLEDGER_DATA_DIR"
        )


def telling_line(printed: str) -> str:
    """Return the line that says why a program of PostgreSQL failed: the first error, else the last line."""
    lines = printed.strip().splitlines() or ["it said nothing"]
    return next((line for line in lines if "FATAL" in line or "error:" in line), lines[-1])


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_other_major(cluster: Path, binaries: Binaries) -> None:
    written_by = (cluster / "PG_VERSION").read_text().strip()
    if written_by != str(binaries.major):
        raise EmbeddedPostgresError(
            f"{cluster} was written by PostgreSQL {written_by} and the programs in {binaries.bin_dir} are version "
            f"{binaries.major}: dump it with the old programs and load it into a new folder, or name another folder "
            "with STOCKLEDGER_DATA_DIR"
        )


def socket_folder(data_dir: Path) -> Path:
    """Return where the socket goes: in the data folder, or under the temporary folder when libpq could not name that.

    The path of a socket is limited, and libpq takes a comma for the end of a host name. Processes that share a server
    in such a folder need the same TMPDIR.
    """
    folder = data_dir / "socket"
    if len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= _LONGEST_SOCKET_PATH and "," not in str(folder):
        return folder
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"{NAME}-{digest}")


def prepare_socket_folder(folder: Path, account: Account) -> None:
    """Make the folder for `account` alone, and empty it: a socket's lock file with a recycled pid stops PostgreSQL.

    Raises EmbeddedPostgresError when someone else made it first, as anyone can under the temporary folder.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    is_private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if not is_private or found.st_uid not in (account.uid, os.geteuid()):
        raise EmbeddedPostgresError(
            f"{folder} is not a private folder of ours: remove it, or set TMPDIR to another place"
        )
    os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    for left_over in folder.glob(".s.PGSQL.*"):
        left_over.unlink()


def end_previous_server(data_dir: Path) -> int:
    """Wait until no server runs on the data, and forget its pid file, whose number may be someone else's by now.

    We hold the lock, so a server that still runs lost its owner and is shutting down; one that does not manage to is
    made to. Returns the descriptor of the server's own lock, taken: all processes of the next server inherit it, and
    so show that they live even where /proc tells nothing (in a container, root may not look at other users' there).
    Raises EmbeddedPostgresError when a server does not end.
    """
    cluster = data_dir / "pg"
    server_lock = _open_lock_file(data_dir / "server.lock")
    try:
        if not _is_unused(cluster, server_lock):
            _end_orphan(cluster, server_lock)
        (cluster / "postmaster.pid").unlink(missing_ok=True)
    except BaseException:
        os.close(server_lock)
        raise
    return server_lock


def _end_orphan(cluster: Path, server_lock: int) -> None:
    for number, limit_seconds in SHUTDOWN_STEPS:
        first_process = _recorded_server(cluster)  # The others end when it does, however it does.
        if first_process:
            with suppress(ProcessLookupError):
                os.kill(first_process, number)
        if wait_until(lambda: _is_unused(cluster, server_lock), limit_seconds):
            return
    raise EmbeddedPostgresError(
        f"a PostgreSQL that lost its owner still runs on {cluster} and does not end: find it with fuser on "
        "server.lock in the folder above, and end it"
    )


def _is_unused(cluster: Path, server_lock: int) -> bool:
    """Tell whether neither a server of ours runs on the data, nor one that somebody started by hand."""
    return take_lock(server_lock) and not _recorded_server(cluster)


def _recorded_server(cluster: Path) -> int:
    """Return the pid in the pid file when that process really is a PostgreSQL on this data, else 0."""
    try:
        pid = int((cluster / "postmaster.pid").read_bytes().split(b"\n", 1)[0])
        program, *arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if os.path.basename(program) not in (b"postgres", b"postmaster"):
            return 0
        is_ours = os.fsencode(cluster) in arguments or os.readlink(f"/proc/{pid}/cwd") == str(cluster)
    except (OSError, ValueError):  # No such file or process, another user's process, or an empty file.
        return 0
    return pid if is_ours else 0


def wait_until(is_so: Callable[[], bool], limit_seconds: float) -> bool:
    """Look every few milliseconds until it is so; return False when it is not within the limit."""
    deadline = time.monotonic() + limit_seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
