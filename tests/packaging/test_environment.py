"""`make` and the virtual environment: whatever state it is found in, the next `make` does or says what to install.

Python is a stand-in here, which makes environments as Debian's and others do, whole or half. That the real one works is
seen by every fresh clone: CI runs `make test` in one.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Understands what the Makefile asks of it. WITHOUT_ENSUREPIP: as on a Debian that lacks python3-venv, whose venv module
# leaves a half-made folder behind.
PYTHON = """#!/bin/sh
echo "python $*" >> "$CALLS"
case "$*" in
*"print("*) echo "${VERSION:-3.11}" ;;
*"sys.exit("*) [ "${VERSION:-3.11}" != 3.10 ] ;;
"-m venv "*)
    mkdir -p "$3/bin"
    if [ -n "${WITHOUT_ENSUREPIP:-}" ]; then
        ln -sf "$0" "$3/bin/python"
        echo "The virtual environment was not created successfully because ensurepip is not available."
        exit 1
    fi
    cp "$STANDIN" "$3/bin/python" ;;
esac
"""
IN_VENV = """#!/bin/sh
echo "venv $*" >> "$CALLS"
case "$*" in
*"print("*) echo "${VERSION:-3.11}" ;;
"-m pip install"*) [ -z "${PIP_FAILS:-}" ] ;;
*"stockledger"*) echo served ;;
esac
"""


class Checkout:
    """A folder with the real Makefile and script, and pythons that only pretend."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "ops").mkdir(parents=True)
        for name in ("Makefile", "ops/make-venv.sh", "setup.cfg", "pyproject.toml", "requirements-dev.lock"):
            shutil.copy(ROOT / name, folder / name)
        self.calls = folder / "calls"
        for name, text in (("python3", PYTHON), ("venv-python", IN_VENV)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    def make(self, **more: str) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        python = more.pop("PYTHON", str(self.folder / "python3"))
        environment = {
            "PATH": os.environ["PATH"],
            "CALLS": str(self.calls),
            "STANDIN": str(self.folder / "venv-python"),
        }
        command = ["make", "--no-print-directory", ".venv/.ready", f"PYTHON={python}"]
        return subprocess.run(
            command, cwd=self.folder, env=environment | more, capture_output=True, text=True, check=False, timeout=60
        )

    @property
    def made(self) -> int:
        """How often the last make made an environment."""
        return self.calls.read_text().count("python -m venv")

    @property
    def installed(self) -> int:
        return self.calls.read_text().count("venv -m pip install")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def test_a_first_make_makes_it_and_a_second_has_nothing_to_do(checkout: Checkout):
    assert checkout.make().returncode == 0
    assert (checkout.made, checkout.installed) == (1, 2)

    assert checkout.make().returncode == 0
    assert checkout.calls.read_text() == "", "nothing is started to see that all is well"


def test_without_ensurepip_it_says_what_to_install_each_time_and_works_once_it_is_there(checkout: Checkout):
    for _ in range(2):
        refused = checkout.make(WITHOUT_ENSUREPIP="1")
        assert refused.returncode != 0
        assert "apt install python3.11-venv" in refused.stderr
        assert not (checkout.folder / ".venv").exists()

    assert checkout.make().returncode == 0
    assert checkout.installed == 2


@pytest.mark.parametrize(
    "left", ["nothing in it", "a python without pip", "a file", "a dangling link", "a whole install but its mark"]
)
def test_what_was_left_half_made_is_made_anew(checkout: Checkout, left: str):
    venv = checkout.folder / ".venv"
    if left == "a file":
        venv.write_text("")
    elif left == "a dangling link":
        venv.symlink_to("/nowhere")
    else:
        (venv / "bin").mkdir(parents=True)
        if left != "nothing in it":
            shutil.copy(checkout.folder / "venv-python", venv / "bin/python")
        if left == "a python without pip":
            (venv / "bin/python").write_text("#!/bin/sh\necho 3.11\ncase $* in *pip*) exit 1;; esac\n")

    assert checkout.make().returncode == 0
    assert (checkout.made, checkout.installed) == (1, 2)


def test_an_install_that_was_cut_off_begins_again(checkout: Checkout):
    failed = checkout.make(PIP_FAILS="1")
    assert failed.returncode != 0
    assert "make again" in failed.stderr

    assert checkout.make().returncode == 0
    assert (checkout.made, checkout.installed) == (1, 2)


def test_an_update_that_was_cut_off_begins_again(checkout: Checkout):
    checkout.make()
    (checkout.folder / "setup.cfg").touch()
    os.utime(checkout.folder / "setup.cfg", (2**31, 2**31))
    assert checkout.make(PIP_FAILS="1").returncode != 0
    assert checkout.made == 0, "what is whole is only filled further"

    os.utime(checkout.folder / "setup.cfg")
    assert checkout.make().returncode == 0
    assert (checkout.made, checkout.installed) == (1, 2)


def test_one_that_was_moved_with_its_folder_is_made_anew(checkout: Checkout, tmp_path: Path):
    checkout.make()
    checkout.folder.rename(tmp_path / "moved")
    moved = Checkout.__new__(Checkout)
    moved.folder, moved.calls = tmp_path / "moved", tmp_path / "moved" / "calls"

    assert moved.make().returncode == 0
    assert (moved.made, moved.installed) == (1, 2)


def test_one_of_another_python_is_made_anew(checkout: Checkout):
    checkout.make()
    other = checkout.folder / "python3.12"
    shutil.copy(checkout.folder / "python3", other)

    assert checkout.make(PYTHON=str(other), VERSION="3.12").returncode == 0
    assert (checkout.made, checkout.installed) == (1, 2)


def test_one_whose_python_is_gone_is_made_anew(checkout: Checkout):
    checkout.make()
    (checkout.folder / ".venv/bin/python").unlink()
    (checkout.folder / ".venv/bin/python").symlink_to("/nowhere/python3.11")

    assert checkout.make().returncode == 0
    assert (checkout.made, checkout.installed) == (1, 2)


@pytest.mark.parametrize(
    ("python", "version", "says"),
    [("nowhere", "3.11", "apt install python3 python3-venv"), ("", "3.10", "3.11 or newer")],
)
def test_a_python_that_will_not_do_is_refused_in_a_sentence(checkout: Checkout, python: str, version: str, says: str):
    chosen = {"PYTHON": python} if python else {}

    refused = checkout.make(VERSION=version, **chosen)

    assert refused.returncode != 0
    assert says in refused.stderr
    assert len([line for line in refused.stderr.splitlines() if "***" not in line]) == 1
