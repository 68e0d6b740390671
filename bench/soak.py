"""Memory under load for a long time: does any process of the service grow?"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, cycle, islice
from typing import Any

from bench.overload import MemoryWatch
from bench.service import HOT, SPREAD, Started
from bench.site import Site, say

SCHEMA = "bench_soak"
CONNECTIONS = 64
SAMPLE_SECONDS = 10.0
TELL_SECONDS = 30.0
HOLD = '{"ttl_seconds": 30}'  # short, so that the expiry process has as much to do as the workers
SETTLED_SHARE = 0.5  # of the run, after which caches are full; growth counts from then on


def measure(site: Site, chosen: argparse.Namespace) -> dict[str, Any]:
    """Rate over the whole run, memory samples of each process, and the growth of the second half."""
    seconds = chosen.soak
    site.drop(SCHEMA)
    with site.service(SCHEMA) as service, ThreadPoolExecutor(1) as pool:
        service.fill()
        with MemoryWatch(service, site.threads, min(SAMPLE_SECONDS, seconds / 10)) as memory:
            start = time.monotonic()
            load = pool.submit(site.load, service, mixed(service), CONNECTIONS, seconds)
            while not load.done() and time.monotonic() < start + seconds:
                time.sleep(min(TELL_SECONDS, seconds / 4))
                _, workers, others = memory.samples[-1]
                figures = ", ".join(f"{mib:.1f}" for mib in workers + others)
                say(f"soak: {time.monotonic() - start:.0f} of {seconds:.0f} s, MiB: {figures}")
            got = load.result()
    samples = [(at - start, workers, others) for at, workers, others in memory.samples]
    return {
        "seconds": seconds,
        "rate": round(got.rate),
        "p99_ms": round(got.p99_ms, 1),
        "errors": got.errors,
        "at_seconds": [round(at, 1) for at, _, _ in samples],
        "workers_mib": [series([workers for _, workers, _ in samples], n) for n in range(len(memory.workers))],
        "others_mib": [series([others for _, _, others in samples], n) for n in range(len(memory.others))],
    }


def series(samples: list[list[float]], number: int) -> list[float]:
    return [round(each[number], 2) for each in samples]


def mixed(service: Started) -> list[bytes]:
    """Requests of all kinds: hot and spread adds, short holds that expire, reads."""
    hot, skus = f"/api/fungible/{HOT}", len(SPREAD)
    kinds = (
        islice(cycle([service.request("POST", f"{hot}/add/1")]), skus),
        (service.request("POST", f"/api/fungible/{sku}/add/1") for sku in SPREAD),
        islice(cycle([service.request("POST", f"{hot}/reserve/1", HOLD)]), skus),
        (service.request("GET", f"/api/fungible/{sku}") for sku in SPREAD),
    )
    return list(chain.from_iterable(zip(*kinds, strict=True)))


def growth(at_seconds: list[float], mib: list[float]) -> float:
    """MiB an hour over the settled part of a run, by least squares; 0 with fewer than two samples of it."""
    start = at_seconds[-1] * SETTLED_SHARE if at_seconds else 0.0
    points = [(at, used) for at, used in zip(at_seconds, mib, strict=True) if at >= start]
    count = len(points)
    if count < 2:
        return 0.0
    middle_at, middle = sum(at for at, _ in points) / count, sum(used for _, used in points) / count
    spread = sum((at - middle_at) ** 2 for at, _ in points)
    return 3600 * sum((at - middle_at) * (used - middle) for at, used in points) / spread if spread else 0.0
