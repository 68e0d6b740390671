"""What is installed is what is here: everything is in the wheel, and everything that it takes is pinned."""

import re
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("ledger", "projections", "api")
CONFIG = ConfigParser()
CONFIG.read(ROOT / "setup.cfg")
LOCK = (ROOT / "requirements-dev.lock").read_text()
PINNED = {canonicalize_name(name): version for name, version in re.findall(r"^(\S+?)==(\S+)", LOCK, re.MULTILINE)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in a wheel that is built here, of a copy: building leaves things behind."""
    copy, made = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    subprocess.run(
        [sys.executable, "-c", f"from setuptools.build_meta import build_wheel; print(build_wheel({str(made)!r}))"],
        cwd=copy,
        check=True,
        capture_output=True,
    )
    with zipfile.ZipFile(next(made.glob("*.whl"))) as opened:
        return set(opened.namelist())


def test_the_wheel_has_every_module_migration_and_file_of_the_page(wheel: set[str]):
    here = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert len(here) > 100
    assert {name for name in wheel if ".dist-info/" not in name} == here


def test_the_wheel_tells_its_licences(wheel: set[str]):
    kept = {name.partition("/licenses/")[2] for name in wheel if "/licenses/" in name}

    assert {"LICENSE", "api/openapi/static/LICENSE.swagger-ui.txt"} <= kept


def requirements() -> list[Requirement]:
    """Everything that the service and its development ask for; our own extras name the others."""
    texts = CONFIG["options"]["install_requires"].split("\n")
    for extra, asked in CONFIG["options.extras_require"].items():
        texts += asked.split("\n") if extra != "bench" else []
    found = [Requirement(text) for text in texts if text.strip()]
    return [requirement for requirement in found if requirement.name != "stockledger"]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_what_is_asked_for_is_pinned_within_its_range(requirement: Requirement):
    pinned = PINNED.get(canonicalize_name(requirement.name))

    assert pinned is not None, "make lock"
    assert requirement.specifier.contains(pinned), f"{pinned}: make lock"


def test_each_pin_has_hashes_and_no_place_to_get_it_from():
    pins = re.split(r"\n(?=\S)", LOCK.strip())

    assert len(pins) > 50
    assert [pin for pin in pins if not re.search(r"--hash=sha256:[0-9a-f]{64}", pin)] == []
    assert "://" not in LOCK


def test_actions_are_pinned_by_commit():
    used = re.findall(r"uses: (\S+)", (ROOT / ".github" / "workflows" / "ci.yml").read_text())

    assert len(used) >= 4
    assert [action for action in used if not re.search(r"@[0-9a-f]{40}$", action)] == []
