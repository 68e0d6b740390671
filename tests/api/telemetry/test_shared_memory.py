"""The board: shared by processes, whole whatever is killed, and counted on from by whoever takes a place over."""

import os
import signal

import pytest

from api.telemetry import catalogue
from api.telemetry.process import Telemetry, everything
from api.telemetry.shared_memory import HALF_BYTES, SharedMemory
from ledger.engine.counters import LabelledCounter


def test_what_a_process_wrote_is_read_by_another_and_outlives_it():
    shared_memory = SharedMemory(["a", "b"])
    pid = os.fork()
    if not pid:
        shared_memory.write("b", b"first")
        shared_memory.write("b", b"second")
        os._exit(0)
    os.waitpid(pid, 0)

    assert (shared_memory.read("a"), shared_memory.read("b")) == (None, b"second")


def test_readers_find_whole_content_while_it_is_written_and_its_writer_killed():
    shared_memory = SharedMemory(["a"])
    shared_memory.write("a", b"0" * 1000)
    for _ in range(5):
        pid = os.fork()
        if not pid:
            number = 0
            while True:
                number += 1
                shared_memory.write("a", str(number % 10).encode() * (100_000 + number % 7))
        seen = set()
        while len(seen) < 20:
            content = shared_memory.read("a")
            assert content is not None and len(set(content)) == 1
            seen.add(len(content) * 10 + content[0])
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        content = shared_memory.read("a")
        assert content is not None and len(set(content)) == 1


def test_what_is_too_long_is_refused_and_what_was_there_stays():
    shared_memory = SharedMemory(["a"])
    shared_memory.write("a", b"short")

    with pytest.raises(ValueError, match="do not fit"):
        shared_memory.write("a", b"x" * HALF_BYTES)
    assert shared_memory.read("a") == b"short"


def test_a_successor_counts_on_and_only_what_was_published_is_shown():
    shared_memory = SharedMemory(["a", "b"])
    for times in (3, 4):
        tally: LabelledCounter[tuple[str, ...]] = LabelledCounter()
        telemetry = Telemetry(shared_memory, "a")
        telemetry.counts(catalogue.PROBLEMS, tally.totals)
        tally.count(("busy",), times)
        telemetry.publish()
        telemetry.publish()
        tally.count(("busy",))  # is lost with the process
    other = Telemetry(shared_memory, "b")
    other.counts(catalogue.PROBLEMS, lambda: {("busy",): [10]})
    other.publish()

    counts, gauges = everything(shared_memory)

    assert counts[catalogue.PROBLEMS.name] == {("busy",): [17]}
    assert counts[catalogue.STARTS.name] == {("a",): [2], ("b",): [1]}
    assert set(gauges[catalogue.MEMORY.name]) == {("a",), ("b",)}


def test_gauges_of_a_process_that_has_fallen_silent_are_not_shown(monkeypatch: pytest.MonkeyPatch):
    shared_memory = SharedMemory(["a"])
    Telemetry(shared_memory, "a").publish()
    monkeypatch.setattr("api.telemetry.process.SILENT_SECONDS", 0)

    counts, gauges = everything(shared_memory)

    assert (counts[catalogue.STARTS.name], gauges) == ({("a",): [1]}, {})
