"""`python -m bench`: measure the service beside raw SQL and the library, and write RESULTS.md, section by section."""

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from bench import connections, overload, page, plots, rates, results, sizes, soak
from bench.measures import TITLES
from bench.site import Site, say, standing
from ledger.store.embedded.server import EmbeddedPostgresError

SECTIONS: dict[str, Callable[[Site, argparse.Namespace], dict[str, Any]]] = {
    "rates": rates.measure,
    "connections": connections.measure,
    "sizes": sizes.measure,
    "overload": overload.measure,
    "soak": soak.measure,
}
SOAK_SECONDS = 600.0


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the service over HTTP beside raw SQL (pgbench) and the library's own pattern, on one "
        "PostgreSQL that is made for it and thrown away. Each section that is measured is kept in results.json at "
        "once, and RESULTS.md and its plots are made anew from there.",
        epilog="measurements of `rates`: " + ", ".join(TITLES),
    )
    parser.add_argument("--full", action="store_true", help="all sections (about two hours)")
    parser.add_argument("--sections", type=names, help=f"some of {','.join(SECTIONS)} (default: rates)")
    parser.add_argument("--page", action="store_true", help="measure nothing: only make page and plots anew")
    parser.add_argument("--seconds", type=float, default=8, help="length of one measurement (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: 3)")
    parser.add_argument("--connections", type=int, default=64, help="callers at a time, in rates (default: 64)")
    parser.add_argument(
        "--only", default="*", help="measurements of rates, such as 'http-*,sql-add-*'; nothing is kept"
    )
    parser.add_argument("--points", type=whole_numbers, default=connections.CONNECTIONS, help="of connections: 1,4,...")
    parser.add_argument("--sizes", type=whole_numbers, default=sizes.EVENTS, help="events in the long log: 10000,...")
    parser.add_argument("--holds", type=int, default=sizes.HOLDS, help="open reservations on one SKU, then (or 0)")
    parser.add_argument("--pairs", type=int, default=5, help="long and empty log in turns, how often (default: 5)")
    parser.add_argument("--pair-seconds", type=float, default=4, help="length of each of these (default: 4)")
    parser.add_argument("--overload-seconds", type=float, default=15, help="of the overload (default: 15)")
    parser.add_argument("--soak", type=float, help=f"seconds of soak ({SOAK_SECONDS:.0f} in --full, else left out)")
    results.add_arguments(parser)
    chosen = parser.parse_args(arguments)
    if min(chosen.seconds, chosen.rounds, chosen.connections, chosen.pairs, chosen.pair_seconds, *chosen.points) < 1:
        parser.error("lengths and numbers must be at least 1")
    if not rates.selected(chosen.only):
        parser.error(f"--only {chosen.only} names no measurement")
    if not plots.is_there():
        parser.error("the plots need matplotlib: pip install -e '.[bench]'")
    if chosen.sections is None:
        chosen.sections = [name for name in SECTIONS if chosen.full or name == "rates"]
        chosen.sections += ["soak"] if chosen.soak and not chosen.full else []
    chosen.soak = chosen.soak or SOAK_SECONDS
    return chosen


def names(text: str) -> list[str]:
    """Sections, in the order in which they are measured."""
    asked = [name.strip() for name in text.split(",")]
    if unknown := [name for name in asked if name not in SECTIONS]:
        raise argparse.ArgumentTypeError(f"there is no section {unknown[0]!r}")
    return [name for name in SECTIONS if name in asked]


def whole_numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted({int(number) for number in text.split(",")}))


def measure(site: Site, chosen: argparse.Namespace) -> int:
    """Measure and keep one section after another; returns how many failed."""
    failed = 0
    for name in chosen.sections:
        began, load_average = time.monotonic(), os.getloadavg()[0]
        say(f"== {name}")
        try:
            data = SECTIONS[name](site, chosen)
            if name == "rates" and chosen.only != "*":
                print(*page.rates(data), sep="\n\n")
            else:
                results.keep(name, data, site, chosen, load_average)
                page.write(chosen.results)
        except Exception:  # whatever it is, the other sections are measured all the same
            failed += 1
            traceback.print_exc()
            say(f"error: {name} is not whole")
        say(f"== {name}: done in {time.monotonic() - began:.0f} s")
    return failed


def main() -> int:
    chosen = parse_arguments()
    if chosen.page:
        page.write(chosen.results)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service is stopped then, too
    try:
        with standing(chosen.workers, chosen.threads, chosen.generator) as site:
            return 1 if measure(site, chosen) else 0
    except EmbeddedPostgresError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
