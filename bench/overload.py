"""Five times the load that the service can take: what it answers, what it sheds, and how soon it is well again."""

import argparse
import threading
import time
from dataclasses import asdict
from statistics import median
from typing import Any

from bench import measures, processes
from bench.paced import Calling, Pace, Seen
from bench.service import SPREAD, Started
from bench.site import PROCESSES, Site, say

SCHEMA = "bench_overload"
# A thousand callers who wait for their answers are no overload of single adds, which only get slower: the service never
# has more than a thousand to do. Of batches a thousand are many seconds of work.
BATCHED = 100
KINDS = {"adds": "single adds", "batches": f"batches of {BATCHED} adds"}
FACTOR = 5
NORMAL_CONNECTIONS, CROWD_CONNECTIONS = 64, 1_000
NORMAL_SECONDS = 10.0
LEAD_SECONDS = 3.0  # for the callers' processes to start and connect
SAMPLE_SECONDS = 0.5
NORMAL_SHARE = 0.9  # of the median rate before, from which on a second counts as normal again


class MemoryWatch:
    """Samples the memory of a service's processes until it is closed: (monotonic seconds, MiB of each worker)."""

    def __init__(self, service: Started, threads: int, every_seconds: float) -> None:
        self.workers, self.others = processes.split(service.pid, threads)
        self.samples: list[tuple[float, list[float], list[float]]] = []
        self._every, self._over = every_seconds, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            workers, others = ([processes.memory(pid).pss for pid in pids] for pids in (self.workers, self.others))
            self.samples.append((time.monotonic(), workers, others))
            if self._over.wait(self._every):
                return

    def largest(self, start: float, end: float) -> float:
        """The most that one worker had between two times, in MiB."""
        return max((max(workers) for at, workers, _ in self.samples if start <= at <= end), default=0.0)


def measure(site: Site, chosen: argparse.Namespace) -> dict[str, Any]:
    """Each kind of request: normal load, the crowd, and without a pause normal load again."""
    site.drop(SCHEMA)
    kinds = {}
    for kind in KINDS:
        with site.service(SCHEMA) as service:
            service.fill()
            kinds[kind] = overloaded(site, service, requests(service, kind), chosen.overload_seconds)
        say(f"{KINDS[kind]}: {kinds[kind]['crowd'] | {'seconds': '...'}}")
        say(f"normal again after {kinds[kind]['normal_again']} s")
    return {"seconds": chosen.overload_seconds, "factor": FACTOR, "connections": CROWD_CONNECTIONS, "kinds": kinds}


def requests(service: Started, kind: str) -> list[bytes]:
    if kind == "adds":
        return measures.requests(service, "http-add-spread")
    starts = range(0, len(SPREAD), BATCHED)
    batches = [measures.batch(SPREAD[start : start + BATCHED]) for start in starts]
    return [service.request("POST", "/api/batch", batch) for batch in batches]


def overloaded(site: Site, service: Started, asked: list[bytes], seconds: float) -> dict[str, Any]:
    normal = Pace(NORMAL_CONNECTIONS, NORMAL_SECONDS)
    with MemoryWatch(service, site.threads, SAMPLE_SECONDS) as memory:
        start = time.monotonic() + LEAD_SECONDS
        before = Calling(service.address, asked, normal, start, processes=PROCESSES).result()
        usual = usual_rate(before)
        say(f"normal load: {usual:,.0f} requests/s; now {FACTOR} times that from {CROWD_CONNECTIONS} connections")
        crowd_start = time.monotonic() + LEAD_SECONDS
        crowd_end = crowd_start + seconds
        pace = Pace(CROWD_CONNECTIONS, seconds, FACTOR * usual)
        crowd = Calling(service.address, asked, pace, crowd_start, processes=PROCESSES)
        after = Calling(service.address, asked, normal, crowd_end, processes=PROCESSES, early=False)
        seen, again = crowd.result(), after.result()
        end = time.monotonic()
    died = [pid for pid in memory.workers if processes.memory(pid).rss == 0.0]
    settled = median([second.answered for second in again.seconds[1:-1]] or [0])
    return {
        "usual_rate": round(usual),
        "settled_rate": round(settled),
        "before": summary(before),
        "crowd": summary(seen),
        "after": summary(again),
        "normal_again": {"usual": normal_again(again, usual), "settled": normal_again(again, settled)},
        "workers_died": len(died),
        "memory_mib": {
            "before": round(memory.largest(0.0, crowd_start - LEAD_SECONDS), 1),
            "crowd": round(memory.largest(crowd_start, crowd_end), 1),
            "after": round(memory.largest(end - 2.0, end), 1),
        },
    }


def usual_rate(seen: Seen) -> float:
    """The median of whole seconds, less the first, in which caches fill, and the last, which may not be whole."""
    return median([second.answered for second in seen.seconds[1:-1]] or [second.answered for second in seen.seconds])


def normal_again(seen: Seen, usual: float) -> int | None:
    """The number, from 0, of the first second whose rate is nearly `usual`; None if there is none."""
    for number, second in enumerate(seen.seconds):
        if second.answered >= NORMAL_SHARE * usual:
            return number
    return None


def summary(seen: Seen) -> dict[str, Any]:
    """What results.json keeps of a phase: totals, latencies in ms, and the seconds one by one."""
    return {
        "asked": seen.asked,
        **asdict(seen.total()),
        "silent": seen.silent,
        "shed_without_retry_after": seen.bare,
        "slowest_ms": round(seen.slowest * 1000, 1),
        "answered_p50_ms": round(seen.answered_latencies.quantile_ms(0.5), 2),
        "answered_p99_ms": round(seen.answered_latencies.quantile_ms(0.99), 2),
        "shed_p50_ms": round(seen.shed_latencies.quantile_ms(0.5), 2),
        "shed_p99_ms": round(seen.shed_latencies.quantile_ms(0.99), 2),
        "seconds": [asdict(second) for second in seen.seconds],
    }
