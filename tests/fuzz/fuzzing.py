"""Running schemathesis against a real service that asks for keys and holds a few products, and what it found."""

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from api.access.scopes import SCOPES
from tests.service import RunningService, running_service

ROOT = Path(__file__).parent.parent.parent
CONFIG = Path(__file__).parent / "schemathesis.toml"
_GENERATED = re.compile(r"([\d,]+) generated")


class Fuzzed(NamedTuple):
    """How many requests were made, and what there is to say if anything was wrong."""

    requests: int
    failures: str


def stockledger(settings: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command of the service, with these settings."""
    return subprocess.run(
        [sys.executable, "-m", "api", *arguments],
        env=os.environ | settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def stocked_service(settings: Mapping[str, str]) -> Iterator[tuple[RunningService, str]]:
    """A service that holds what schemathesis.toml names, and a key for everything."""
    scopes = [part for scope in SCOPES for part in ("--scope", scope)]
    made = stockledger(settings, "keys", "create", "fuzz", *scopes)
    assert made.returncode == 0, made.stderr
    key = next(word for word in made.stdout.split() if word.startswith("slk_"))
    with running_service({**settings, "STOCKLEDGER_AUTH": "on"}) as service:
        for path in ("fungible/PENCIL", "fungible/PAPER", "non-fungible/BIKE/VIN1", "non-fungible/BIKE/VIN2"):
            body = b'{"amount_in_stock": 1000000}' if path.startswith("fungible") else b"{}"
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
            request = urllib.request.Request(f"{service.url}/api/{path}", body, headers, method="PUT")
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.status == 200
        yield service, key


def fuzz(service: RunningService, key: str, folder: Path, *options: str) -> Fuzzed:
    """Run schemathesis once; it keeps what it wants to keep in `folder`."""
    ran = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis",
            *(
                "--config-file",
                CONFIG,
                "run",
                f"{service.url}/openapi.json",
                "--header",
                f"Authorization: Bearer {key}",
            ),
            *options,
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    generated = _GENERATED.search(ran.stdout)
    requests = int(generated[1].replace(",", "")) if generated else 0
    return Fuzzed(requests, "" if ran.returncode == 0 and requests else ran.stdout + ran.stderr)
