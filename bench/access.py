"""`python -m bench.access`: what keys and their limits cost, in processor time of the HTTP processes for one request.

Services that ask for no keys, for keys, and for keys with a limit on each, take the same load in turn, so that all meet
the same machine; the median of each is told. Nothing is written into RESULTS.md.
"""

import argparse
import os
import sys
from contextlib import ExitStack
from statistics import median

from api.access.keys import hash_of, new_key
from bench import processes
from bench.service import HOT, Started, running_service
from bench.site import Site, say, standing
from ledger.store import keys
from ledger.store.connection import connect

SETTINGS = {
    "no keys": {"AUTH": "off"},
    "keys": {"AUTH": "on"},
    "keys and limits": {"AUTH": "on", "RATE_LIMIT": 1_000_000, "RATE_BURST": 1_000_000},
}
LOADS = {"add": ("POST", f"/api/fungible/{HOT}/add/1"), "get": ("GET", f"/api/fungible/{HOT}")}
CONNECTIONS = 64
WARMING_SECONDS = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    chosen = parser.parse_args()
    taken: dict[tuple[str, str], list[float]] = {(name, load): [] for load in LOADS for name in SETTINGS}
    with standing(min(4, os.cpu_count() or 1), 32, "wrk") as site, ExitStack() as stack:
        services = {}
        for number, (name, settings) in enumerate(SETTINGS.items()):
            schema = f"bench_access_{number}"
            where = (site.folder, site.url, schema, site.workers, site.threads)
            with running_service(*where) as service:
                service.fill()
            key = new_key()
            with connect(site.url, schema) as conn:
                keys.create(conn, "bench", hash_of(key), ["read", "stock:write"], None)
            services[name] = stack.enter_context(running_service(*where, settings)), key
        for number in range(chosen.rounds):
            say(f"round {number + 1} of {chosen.rounds}")
            for name, load in taken:
                taken[name, load].append(microseconds(site, *services[name], LOADS[load], chosen.seconds))
    for (name, load), each in taken.items():
        print(f"{load}, {name}: {median(each):.1f} microseconds a request ({', '.join(f'{m:.1f}' for m in each)})")
    return 0


def microseconds(site: Site, service: Started, key: str, load: tuple[str, str], seconds: float) -> float:
    """Processor time of the HTTP processes for one request."""
    line, _, rest = service.request(*load).partition(b"\r\n")
    requests = [line + b"\r\nAuthorization: Bearer " + key.encode() + b"\r\n" + rest]
    site.load(service, requests, CONNECTIONS, WARMING_SECONDS)
    workers, _ = processes.split(service.pid, site.threads)
    before = [processes.cpu(pid) for pid in workers]
    measured = site.load(service, requests, CONNECTIONS, seconds)
    assert not measured.errors, "every request is answered"
    spent = sum((processes.cpu(pid) - then for pid, then in zip(workers, before, strict=True)), processes.Cpu())
    return (spent.user + spent.system) * 1e6 / (measured.rate * seconds)


if __name__ == "__main__":
    sys.exit(main())
