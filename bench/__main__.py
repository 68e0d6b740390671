"""`python -m bench`: start a service of its own, measure it beside raw SQL and the library, write RESULTS.md."""

import argparse
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

from api.settings import read_settings
from bench import machine, measures, report, wrk
from bench.library import Library
from bench.load import LoadError
from bench.measured import Measured
from bench.measures import PROCESSES, TITLES, Measure
from bench.rawsql import RawSql, RawSqlError
from bench.service import ServiceError, running_service
from ledger.store.embedded import EmbeddedPostgres, EmbeddedPostgresError, find_binaries

WARM_UP_SECONDS = 2.0
PAUSE_SECONDS = 1.0  # between two measurements, for the one before to leave the machine


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the service over HTTP beside raw SQL (pgbench) and the library's own pattern, on one "
        "PostgreSQL that is made for it and thrown away. Writes bench/RESULTS.md unless --only leaves something out.",
        epilog="measurements: " + ", ".join(TITLES),
    )
    generator = "wrk" if wrk.is_there() else "own"
    parser.add_argument("--seconds", type=float, default=8, help="length of one measurement (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: 3)")
    parser.add_argument("--connections", type=int, default=64, help="callers at a time (default: 64)")
    service = read_settings({}, {})
    parser.add_argument("--workers", type=int, default=service.workers, help="of the service (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=service.threads, help="of each worker (default: %(default)s)")
    parser.add_argument("--generator", choices=("wrk", "own"), default=generator, help=f"(default here: {generator})")
    parser.add_argument(
        "--only", default="*", help="names or patterns with a comma between, such as 'http-*,sql-add-*'"
    )
    chosen = parser.parse_args(arguments)
    if min(chosen.seconds, chosen.rounds, chosen.connections) < 1:
        parser.error("--seconds, --rounds and --connections must be at least 1")
    if not selected(chosen.only):
        parser.error(f"--only {chosen.only} names no measurement")
    return chosen


def selected(only: str) -> list[str]:
    """The names that one of the patterns fits, in the order of the table."""
    return [name for name in TITLES if any(fnmatch(name, pattern.strip()) for pattern in only.split(","))]


@contextmanager
def prepared(chosen: argparse.Namespace, names: list[str], folder: Path) -> Iterator[tuple[dict[str, Measure], str]]:
    """Everything that the chosen measurements need, running and filled; yields them and the URL of their PostgreSQL."""
    with ExitStack() as stack:
        found: dict[str, Measure] = {}
        if any(name.startswith("http-") for name in names):
            say("starting the service")
            service = stack.enter_context(running_service(folder, chosen.workers, chosen.threads))
            service.fill()
            found |= measures.of_service(service, chosen.generator, chosen.connections)
        postgres = stack.enter_context(EmbeddedPostgres.start(folder / "data"))
        if found and postgres.owner:
            raise ServiceError("the service does not keep its PostgreSQL in STOCKLEDGER_DATA_DIR")
        sql = RawSql(postgres.url, find_binaries().bin_dir, chosen.connections, PROCESSES)
        library = Library(postgres.url, PROCESSES)
        sql.prepare()
        library.prepare()
        found |= measures.of_raw_sql(sql) | measures.of_library(library, chosen.connections)
        yield {name: found[name] for name in names}, postgres.url


def run(todo: dict[str, Measure], seconds: float, rounds: int) -> dict[str, list[Measured]]:
    """Warm up, then measure all in every round; progress goes to stderr."""
    results: dict[str, list[Measured]] = {name: [] for name in todo}
    for number in range(rounds + 1):
        for name, measure in todo.items():
            got = measure(seconds if number else WARM_UP_SECONDS)
            if number:
                results[name].append(got)
            stage = f"round {number} of {rounds}" if number else "warm-up"
            say(f"{stage:>14}  {TITLES[name]:<48} {report.number(got.rate):>8}/s  p99 {got.p99_ms:.1f} ms")
            time.sleep(PAUSE_SECONDS)
    return results


def settings(chosen: argparse.Namespace, load_average: float) -> dict[str, str]:
    """How this run was asked for, and how busy the machine was with other things."""
    return {
        "Date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "Command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        "Measured for": f"{chosen.seconds:g} s each, {chosen.rounds} rounds after a warm-up of {WARM_UP_SECONDS:g} s",
        "Load average before": f"{load_average:.2f}",
        "Callers": f"{chosen.connections} keep-alive connections, pgbench clients or threads of the library",
        "HTTP load": f"{chosen.generator}, {PROCESSES} threads or processes",
        "Service": f"{chosen.workers} workers of {chosen.threads} threads",
    }


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    chosen = parse_arguments()
    names = selected(chosen.only)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service is stopped then, too
    load_average = os.getloadavg()[0]
    folder = Path(tempfile.mkdtemp(prefix="stockledger-bench-", dir="/tmp"))
    folder.chmod(0o755)  # PostgreSQL runs as another user when we are root
    try:
        with prepared(chosen, names, folder) as (todo, url):
            facts = machine.facts(url, folder)
            rounds = run(todo, chosen.seconds, chosen.rounds)
    except (ServiceError, LoadError, RawSqlError, EmbeddedPostgresError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(report.table(rounds), report.ratios(rounds), sep="\n\n")
    if len(names) == len(TITLES):
        report.RESULTS.write_text(report.document(rounds, settings(chosen, load_average) | facts))
        say(f"written: {os.path.relpath(report.RESULTS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
