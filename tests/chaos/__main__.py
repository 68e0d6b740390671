"""The long form: `python -m tests.chaos --seed N --seconds S`. Callers, faults, a check of every promise, over again.

Each round has a ledger of its own and ends with everything healed, and with the audit of all that was written and
said. Exits with 1 if any promise was broken.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ledger.store.embedded.server import EmbeddedPostgres
from tests.chaos.arena import Arena
from tests.chaos.audit import audit
from tests.chaos.callers import Load, stock_the_shop
from tests.chaos.faults import FAULTS, MISSED
from tests.chaos.proxy import Proxy
from tests.chaos.service import wait_until

ROUND_SECONDS = 20.0
PAUSE_SECONDS = (0.2, 1.5)
RECOVERY_SECONDS = 20.0
SHOWN = 20


@dataclass
class Figures:
    rounds: int = 0
    words: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    entries: int = 0
    checks: int = 0
    slowest: float = 0.0
    broken: list[str] = field(default_factory=list)

    def take_in(self, load: Load, entries: int, checks: int, broken: list[str]) -> None:
        self.rounds += 1
        self.words.update(note.word for note in load.notes)
        self.requests += len(load.attempts)
        self.entries += entries
        self.checks += checks
        self.slowest = max([self.slowest, *(attempt.seconds or 0.0 for attempt in load.attempts)])
        self.broken += broken

    def line(self) -> str:
        said = ", ".join(f"{self.words[word]} {word}" for word in ("acknowledged", "refused", "unknown"))
        untold = self.words["nothing recorded"]
        return (
            f"{sum(self.words.values())} commands ({said}, {untold} not carried out) in {self.requests} requests, "
            f"{sum(self.faults.values())} faults, {self.entries} entries, {self.checks} checks, "
            f"slowest answer {self.slowest:.1f} s, {len(self.broken)} promises broken"
        )


def main() -> int:
    given = _arguments()
    print(f"seed {given.seed}", flush=True)
    figures = Figures()
    folder = Path(tempfile.mkdtemp(prefix="stockledger-chaos-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user when this runs as root
    try:
        _rounds(given, figures, folder)
    except BaseException as error:
        figures.broken.append(f"it came to an end by {error!r}")
        _report(figures, folder)
        raise
    return _report(figures, folder)


def _rounds(given: argparse.Namespace, figures: Figures, folder: Path) -> None:
    until = time.monotonic() + given.seconds
    with EmbeddedPostgres.start(folder / "postgres") as postgres, Proxy(postgres.url) as proxy:
        while time.monotonic() < until:
            schema = f"round_{figures.rounds}"
            logs = folder / schema
            logs.mkdir()
            with Arena(postgres, proxy, logs, schema, workers=given.workers) as arena:
                _round(arena, figures, given.callers, f"{given.seed}/{figures.rounds}", until)
            print(f"round {figures.rounds}: {figures.line()}", flush=True)


def _round(arena: Arena, figures: Figures, callers: int, seed: str, until: float) -> None:
    chance = random.Random(seed)
    notes = stock_the_shop(arena.service.wire())
    end = min(until, time.monotonic() + ROUND_SECONDS)
    with Load(arena.service.wire, callers=callers, seed=seed) as load:
        while time.monotonic() < end:
            time.sleep(chance.uniform(*PAUSE_SECONDS))
            _strike(arena, figures, chance)
        arena.heal()
        healed = time.monotonic()
        recovers = _becomes_well(load, healed)
    load.settle()
    report = audit(arena.postgres.url, arena.schema, notes + load.notes, load.seen)
    broken = list(report.broken)
    if not recovers:
        broken.append("it does not work again when all is healed")
    if failures := arena.service.said().count("Traceback"):
        broken.append(f"the service logged {failures} failures of its own")
    figures.take_in(load, report.entries, report.checked, [f"{arena.schema}: {sentence}" for sentence in broken])


def _strike(arena: Arena, figures: Figures, chance: random.Random) -> None:
    fault = chance.choice(FAULTS)
    try:
        fault(arena, random.Random(chance.random()))
    except MISSED:
        return
    figures.faults[fault.__name__.replace("_", " ")] += 1


def _becomes_well(load: Load, healed: float) -> bool:
    try:
        wait_until(lambda: load.has_worked_since(healed), RECOVERY_SECONDS, "it works again")
    except AssertionError:
        return False
    return True


def _report(figures: Figures, folder: Path) -> int:
    print(figures.line())
    for name, count in sorted(figures.faults.items()):
        print(f"  {count:4} x {name}")
    for sentence in figures.broken[:SHOWN]:
        print(f"BROKEN {sentence}")
    if figures.broken:
        print(f"the data and logs are in {folder}")
    else:
        shutil.rmtree(folder)
    print(f"{len(figures.broken)} promises broken")
    return 1 if figures.broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32), help="of all choices")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long to go on (default 600)")
    parser.add_argument("--workers", type=int, default=3, help="HTTP processes of the service (default 3)")
    parser.add_argument("--callers", type=int, default=10, help="callers at once (default 10)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
