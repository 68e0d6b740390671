"""Running schemathesis against a real service that holds a few products, and what it found."""

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.service import RunningService

SETTINGS = Path(__file__).parent / "schemathesis.toml"
_GENERATED = re.compile(r"([\d,]+) generated")


def stock(service: RunningService) -> None:
    """What the dictionaries of schemathesis.toml name, as far as it is to be there."""
    for path in ("fungible/PENCIL", "fungible/PAPER", "non-fungible/BIKE/VIN1", "non-fungible/BIKE/VIN2"):
        body = b'{"amount_in_stock": 1000000}' if path.startswith("fungible") else b"{}"
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{service.url}/api/{path}", body, headers, method="PUT")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200


def fuzz(service: RunningService, *options: str) -> tuple[int, str]:
    """How many requests were made, and what there is to say about them if anything failed."""
    ran = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis",
            "--config-file",
            SETTINGS,
            "run",
            f"{service.url}/openapi.json",
            *options,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    generated = _GENERATED.search(ran.stdout)
    count = int(generated[1].replace(",", "")) if generated else 0
    return count, "" if ran.returncode == 0 and count else ran.stdout + ran.stderr
