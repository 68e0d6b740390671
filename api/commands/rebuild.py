"""`stockledger rebuild`: makes read models anew from the log while the service runs, and says how they differed."""

import argparse
import gc
import sys
import time

from api.database import database
from api.settings import Settings
from ledger.errors import UnreadableEventError
from projections.rebuilding.groups import RebuildError
from projections.rebuilding.rebuild import NAMES, Compared, Rebuild
from projections.rebuilding.shadow_tables import UnfitTableError

REPORT_EVERY_SECONDS = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--check", action="store_true", help="compare only, and leave what is live in place")


def run(settings: Settings, chosen: argparse.Namespace) -> int:
    """0 when live and rebuilt were equal, 1 when they were not (a rebuild mends that) or it could not be done."""
    if unknown := sorted(set(chosen.names) - set(NAMES)):
        print(
            f"stockledger: no read model is named {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr
        )
        return 2
    gc.disable()  # what is kept in memory holds no cycles, and looking for them takes a tenth of the time
    try:
        with database(settings, as_owner=True) as (url, _):
            return _rebuild(url, settings.schema, chosen.names or NAMES, check=chosen.check)
    except (RebuildError, UnfitTableError, UnreadableEventError) as error:
        print(f"stockledger: {error}", file=sys.stderr)
        return 1
    finally:
        gc.enable()


def _rebuild(url: str, schema: str, names: list[str] | tuple[str, ...], *, check: bool) -> int:
    started = time.monotonic()
    with Rebuild(url, schema, names) as rebuild:
        position = rebuild.catch_up(_Progress())
        seconds = max(time.monotonic() - started, 0.001)
        print(f"folded          {position:,} events in {seconds:.1f} s, {position / seconds:,.0f} a second", flush=True)
        compared = rebuild.compare()
        _tell(compared)
        if check:
            return 1 if compared.different else 0
        print(f"in place        {', '.join(names)} at position {rebuild.swap():,}", flush=True)
    return 1 if compared.different else 0


def _tell(compared: Compared) -> None:
    for name in compared.behind:
        print(f"not compared    {name} is behind: does 'stockledger follow' run?")
    for table, different in compared.different.items():
        more = ", ..." if different.rows > len(different.keys) else ""
        print(f"different       {table}: {different.rows:,} rows: {', '.join(different.keys)}{more}")
    if not compared.different:
        print(f"compared        live equals rebuilt at position {compared.position:,}", flush=True)


class _Progress:
    """Tells how far it is every now and then."""

    def __init__(self) -> None:
        self._tell_at = time.monotonic() + REPORT_EVERY_SECONDS

    def __call__(self, position: int, head: int) -> None:
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + REPORT_EVERY_SECONDS
            print(f"{position:>15,} of {head:,} events", file=sys.stderr, flush=True)
