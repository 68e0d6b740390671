"""The operating system account that PostgreSQL's programs run as, and how they are launched as it.

PostgreSQL refuses to run as root, so root drops to another user; anyone else runs it as themselves. Nothing here
knows what the programs do.
"""

import ctypes
import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PROGRAM_LIMIT_SECONDS = 120.0
"""How long a program that should end by itself (initdb) may take."""

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_LIBC = ctypes.CDLL(None, use_errno=True)


class EmbeddedPostgresError(Exception):
    """The private PostgreSQL cannot be had; the text is one sentence for the operator, with advice."""


@dataclass(frozen=True)
class Account:
    """A user and group by number: a container's volume may belong to a user that has no name here."""

    uid: int
    gid: int

    @property
    def is_another(self) -> bool:
        """Whether we have to give up our own identity to act as this account."""
        return self.uid != os.geteuid()


def account_for(cluster: Path) -> Account:
    """Return who runs the server: we ourselves, but for root the owner of its data, else `postgres`, else `nobody`.

    Following the owner keeps a folder usable when a user `postgres` appears later, with a system package.
    Raises EmbeddedPostgresError when the data belongs to someone that we cannot become.
    """
    owner = cluster.stat().st_uid if cluster.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise EmbeddedPostgresError(
                f"the data in {cluster} belong to the user with number {owner}: run the service as that user, or name "
                "another folder with STOCKLEDGER_DATA_DIR"
            )
        return Account(os.geteuid(), os.getegid())
    if owner:
        return Account(owner, cluster.stat().st_gid)
    return _unprivileged_account()


def _unprivileged_account() -> Account:
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise EmbeddedPostgresError(
        "PostgreSQL refuses to run as root and there is no user 'postgres' or 'nobody' to run it as: run the service "
        "as an ordinary user, or set DATABASE_URL"
    )


def spawn(
    arguments: Sequence[str | Path],
    account: Account,
    cwd: Path,
    on_our_death: signal.Signals,
    output: int | IO[bytes],
    inherited: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program as `account`, in a session of its own, that gets the signal `on_our_death` when we die.

    A session of its own, because Ctrl-C at a terminal goes to the whole foreground group, and the server must outlive
    the draining of the service. It keeps the descriptors `inherited` open. Raises OSError when the account may not
    run the program.
    """
    environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}  # PGPORT, PGDATA, ... would change it
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return subprocess.Popen(  # noqa: S603 - our own argument list, no shell
        [os.fspath(argument) for argument in arguments],
        cwd=cwd,
        env=environment,
        stdin=subprocess.PIPE if output == subprocess.PIPE else subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=inherited,
        preexec_fn=follow_to_the_grave(on_our_death),
        user=account.uid if account.is_another else None,
        group=account.gid if account.is_another else None,
        extra_groups=[] if account.is_another else None,
    )


def follow_to_the_grave(on_our_death: signal.Signals) -> Callable[[], None]:
    """Return what the child does first, or just before exec: ask for a signal when the thread that forked it ends.

    It runs after user= and group=, as it must: changing identity clears the request. Between fork and exec only one
    C call and getppid happen, so a lock held by another thread of ours cannot hang it.
    """
    parent = os.getpid()

    def ask() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(on_our_death), 0, 0, 0)
        if os.getppid() != parent:  # We died before the request: nobody would ever send the signal.
            os._exit(1)

    return ask


def run(arguments: Sequence[str | Path], account: Account, cwd: Path, script: str = "") -> tuple[int, str]:
    """Run a program to its end, with `script` as its input; return its exit status and all that it printed.

    Raises OSError when the account may not run it, subprocess.TimeoutExpired after PROGRAM_LIMIT_SECONDS.
    """
    process = spawn(arguments, account, cwd, signal.SIGKILL, subprocess.PIPE)
    try:
        printed, _ = process.communicate(script.encode(), timeout=PROGRAM_LIMIT_SECONDS)
    except BaseException:  # also Ctrl-C, which the program does not see
        process.kill()
        process.communicate()
        raise
    return process.returncode, printed.decode(errors="replace")
