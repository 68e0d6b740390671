"""One process's numbers: collected from whoever counts, put on the board each second, read from there by all."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import msgspec
from msgspec import Struct

from api.telemetry import catalogue
from api.telemetry.catalogue import Metric
from api.telemetry.shared_memory import SharedMemory
from ledger.engine.counters import added

PUBLISH_SECONDS = 1.0
# Gauges of a process that has said nothing for so long are not shown: it is gone, or hangs.
SILENT_SECONDS = 5.0

logger = logging.getLogger(__name__)

Labels = tuple[str, ...]
# Numbers of a metric by its labels: one for a counter, for a histogram those of ledger.engine.counters.
Numbers = Mapping[Labels, list[float]]
Gauges = Mapping[Metric, Mapping[Labels, float]]


class Snapshot(Struct, array_like=True):
    """What one process says of itself, the metrics by name: `counts` since the service started, whoever died since."""

    at: float
    counts: dict[str, dict[Labels, list[float]]]
    gauges: dict[str, dict[Labels, float]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Snapshot)


class Telemetry:
    """The numbers of the process that makes it, which takes the place `name` on the board."""

    def __init__(self, shared_memory: SharedMemory, name: str) -> None:
        self.shared_memory = shared_memory
        self.name = name
        # Counters must not fall when a process is replaced: its successor counts on from where it was seen last.
        before = snapshot(shared_memory, name)
        self._before = {} if before is None else before.counts
        self._started = time.time()
        self._counted: list[tuple[Metric, Callable[[], Numbers]]] = []
        self._gauges: list[Callable[[], Gauges]] = []
        self._guard = threading.Lock()
        self.counts(catalogue.STARTS, lambda: {(name,): [1]})
        self.gauges(self._process)

    @classmethod
    def alone(cls) -> "Telemetry":
        """For a process that shares its numbers with no other."""
        return cls(SharedMemory(["alone"]), "alone")

    def counts(self, metric: Metric, totals: Callable[[], Numbers]) -> None:
        """Expose a counter or histogram; `totals` only grow."""
        self._counted.append((metric, totals))

    def gauges(self, now: Callable[[], Gauges]) -> None:
        """Expose what is so now."""
        self._gauges.append(now)

    def publish(self) -> None:
        """Put the numbers on the board. Only what is there is ever shown, so that nothing shown is lost by a kill."""
        with self._guard:
            counts = {name: dict(numbers) for name, numbers in self._before.items()}
            for metric, totals in self._counted:
                known = counts.setdefault(metric.name, {})
                for labels, numbers in totals().items():
                    known[labels] = added(known.get(labels), numbers)
            gauges: dict[str, dict[Labels, float]] = {}
            for now in self._gauges:
                for metric, values in now().items():
                    gauges.setdefault(metric.name, {}).update(values)
            self.shared_memory.write(self.name, _encoder.encode(Snapshot(time.time(), counts, gauges)))

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Publish every second in a thread of its own, and once more at the end."""
        stopping = threading.Event()

        def work() -> None:
            while not stopping.wait(PUBLISH_SECONDS):
                self._publish_safely()

        thread = threading.Thread(target=work, name="telemetry", daemon=True)
        self._publish_safely()
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(PUBLISH_SECONDS)
            self._publish_safely()

    def _publish_safely(self) -> None:
        try:
            self.publish()
        except Exception:  # whatever is wrong with the numbers must not stop what they are about
            logger.exception("the metrics could not be published")

    def _process(self) -> Gauges:
        with open("/proc/self/statm") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return {
            metric: {(self.name,): value}
            for metric, value in (
                (catalogue.CPU, time.process_time()),
                (catalogue.STARTED, self._started),
                (catalogue.MEMORY, resident),
                (catalogue.FILES, len(os.listdir("/proc/self/fd"))),
                (catalogue.THREADS, threading.active_count()),
            )
        }


def snapshot(shared_memory: SharedMemory, name: str) -> Snapshot | None:
    content = shared_memory.read(name)
    return None if content is None else _decoder.decode(content)


def everything(
    shared_memory: SharedMemory,
) -> tuple[dict[str, dict[Labels, list[float]]], dict[str, dict[Labels, float]]]:
    """Counts of all processes, added up, and the gauges of those that are alive; by metric's name and labels."""
    counts: dict[str, dict[Labels, list[float]]] = {}
    gauges: dict[str, dict[Labels, float]] = {}
    for found in (snapshot(shared_memory, name) for name in shared_memory.names):
        if found is None:
            continue
        for name, by_labels in found.counts.items():
            known = counts.setdefault(name, {})
            for labels, numbers in by_labels.items():
                known[labels] = added(known.get(labels), numbers)
        if time.time() - found.at < SILENT_SECONDS:
            for name, values in found.gauges.items():
                gauges.setdefault(name, {}).update(values)
    return counts, gauges
