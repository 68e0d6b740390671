"""What `make bench` measures: every command at one number of connections, beside raw SQL and the library."""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from fnmatch import fnmatch
from functools import partial
from typing import Any

from bench import measures, rounds
from bench.library import Library
from bench.measures import TITLES, Measure
from bench.site import PROCESSES, Site, say


def selected(only: str) -> list[str]:
    """The names that one of the patterns fits, in the order of the table."""
    return [name for name in TITLES if any(fnmatch(name, pattern.strip()) for pattern in only.split(","))]


def measure(site: Site, chosen: argparse.Namespace) -> dict[str, Any]:
    """Rounds of each measurement by its name in TITLES."""
    names = selected(chosen.only)
    with ExitStack() as stack:
        found: dict[str, Measure] = {}
        settle: Callable[[], object] = bool  # nothing to wait for
        if any(name.startswith(("http-", "import")) for name in names):
            say("starting the service")
            service = stack.enter_context(site.service(measures.SCHEMA))
            service.fill()
            settle = partial(site.settle, measures.SCHEMA)
            found |= measures.of_service(site, service, chosen.connections)
        sql, library = measures.raw_sql(site, chosen.connections), Library(site.url, PROCESSES)
        sql.prepare()
        library.prepare()
        found |= measures.of_raw_sql(sql) | measures.of_library(library, chosen.connections)
        todo = {name: found[name] for name in names}
        got = rounds.run(todo, chosen.seconds, chosen.rounds, TITLES.__getitem__, settle)
    return {
        "seconds": chosen.seconds,
        "connections": chosen.connections,
        "rounds": {name: rounds.stored(each) for name, each in got.items()},
    }
