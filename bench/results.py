"""bench/results.json: the figures of each section with the date, the command and the machine that they come from.

A run replaces its own sections and leaves the others, so that the page can say of each when and how it was measured.
"""

import argparse
import json
import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from api.settings import read_settings
from bench import machine, wrk
from bench.site import PROCESSES, Site, say

FOLDER = Path(__file__).parent
FILE = "results.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every measuring program takes."""
    service, generator = read_settings({}, {}), "wrk" if wrk.is_there() else "own"
    parser.add_argument("--workers", type=int, default=service.workers, help="of the service (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=service.threads, help="of each worker (default: %(default)s)")
    parser.add_argument("--generator", choices=("wrk", "own"), default=generator, help=f"(default here: {generator})")
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of results.json and the page")


def keep(name: str, data: dict[str, Any], site: Site, chosen: argparse.Namespace, load_average: float) -> None:
    """Replace the section `name`; `load_average` is that of the minute before it was measured."""
    section = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "command": command(),
        "load_average": round(load_average, 2),
        "fdatasync_ms": round(machine.sync_ms(site.folder), 3),
        "machine": machine.facts(site.url)
        | {
            "Service": f"{chosen.workers} workers of {chosen.threads} threads",
            "HTTP load": f"{chosen.generator}, {PROCESSES} threads or processes",
        },
        "data": data,
    }
    stored = read(chosen.results)
    stored["sections"] = dict(sorted({**stored["sections"], name: section}.items()))
    chosen.results.mkdir(parents=True, exist_ok=True)
    path = chosen.results / FILE
    path.with_suffix(".new").write_text(json.dumps(stored, indent=1) + "\n")
    path.with_suffix(".new").replace(path)
    say(f"kept: section {name} of {os.path.relpath(path)}")


def read(folder: Path) -> dict[str, Any]:
    """What is stored there; empty sections where nothing is."""
    path = folder / FILE
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"sections": {}}
    return found


def command() -> str:
    """How this program was called."""
    spec = sys.modules["__main__"].__spec__
    name = spec.name.removesuffix(".__main__") if spec else "bench"
    return shlex.join(["python", "-m", name, *sys.argv[1:]])
