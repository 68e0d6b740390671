"""What the suite counts by itself: seconds of an overload, memory, processor time, growth."""

import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from bench import imports, processes, soak
from bench.load import http_request
from bench.overload import normal_again, usual_rate
from bench.paced import Calling, Pace, Second, Seen, call
from bench.processes import Cpu
from bench.service import free_port


class Shedding(BaseHTTPRequestHandler):
    """Turns away `/shed` with Retry-After and `/bare` without."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status = "200 OK" if self.path == "/" else "503 Service Unavailable"
        retry = "Retry-After: 1\r\n" if self.path == "/shed" else ""
        self.wfile.write(f"HTTP/1.1 {status}\r\n{retry}Content-Length: 0\r\n\r\n".encode())


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Shedding) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield "127.0.0.1", server.server_address[1]
        server.shutdown()
        thread.join()


def seen_by(address: tuple[str, int], path: str, pace: Pace) -> Seen:
    return call(address, [http_request("GET", path, "h")], pace, range(pace.connections), 0.0, early=True)


def test_a_paced_caller_asks_no_more_than_its_pace(address: tuple[str, int]) -> None:
    seen = seen_by(address, "/", Pace(connections=2, seconds=0.5, rate=40))

    assert 0 < seen.asked <= 22
    assert seen.total() == Second(answered=seen.asked)
    assert seen.silent == 0


def test_shedding_is_told_from_errors_and_from_answers(address: tuple[str, int]) -> None:
    polite, bare = (seen_by(address, path, Pace(1, 0.2, 50)) for path in ("/shed", "/bare"))

    assert polite.total() == Second(shed=polite.asked)
    assert (polite.bare, bare.bare) == (0, bare.asked)
    assert polite.asked > 0


def test_callers_of_a_service_that_is_not_there_count_errors() -> None:
    seen = seen_by(("127.0.0.1", free_port()), "/", Pace(1, 0.3, 50))

    assert seen.asked == 0
    assert seen.total().errors > 0


def test_callers_in_several_processes_are_added_up(address: tuple[str, int]) -> None:
    request = [http_request("GET", "/", "h")]

    seen = Calling(address, request, Pace(3, 0.2, 30), 0.0, processes=2).result()

    assert 3 <= seen.asked <= 9
    assert seen.total() == Second(answered=seen.asked)


def after(*answered: int) -> Seen:
    return Seen(seconds=[Second(answered=count) for count in answered])


def test_the_usual_rate_leaves_out_the_first_second_and_the_last() -> None:
    assert usual_rate(after(10, 100, 110, 120, 3)) == 110


@pytest.mark.parametrize(("answered", "second"), [((0, 89, 90, 100), 2), ((95,), 0), ((0, 50), None)])
def test_normal_again_is_the_first_second_near_the_usual_rate(answered: tuple[int, ...], second: int | None) -> None:
    assert normal_again(after(*answered), 100) == second


def test_growth_counts_the_second_half_alone() -> None:
    assert soak.growth([0, 100, 200, 300, 400], [10, 30, 31, 31, 31]) == 0
    assert soak.growth([0, 1800, 3600], [10, 20, 21]) == pytest.approx(2)
    assert soak.growth([0], [10]) == 0


def test_memory_is_read_in_mebibytes() -> None:
    rollup = "55d0-7ffd ---p 00000000 00:00 0 [rollup]\nRss:   20480 kB\nPss:   10240 kB\nPss_Dirty: 1 kB\n"

    assert processes.parse_memory(rollup) == processes.Memory(rss=20.0, pss=10.0)
    assert processes.memory(os.getpid()).rss > 1


def test_a_programs_name_may_hold_anything() -> None:
    assert processes.stat_fields("7 (a (b) c) S 3 4")[:2] == ["S", "3"]
    assert processes.parent(os.getpid()) == os.getppid()


def test_processor_time_is_told_for_one_command() -> None:
    assert (Cpu(3.0, 1.0) - Cpu(1.0, 0.5)).per(1_000) == {"user": 2_000.0, "system": 500.0}


def test_no_two_files_to_import_are_alike() -> None:
    first, second = imports.movements(2_500), imports.movements(2_500)

    assert first != second
    assert len(first.splitlines()) == 2_501
    assert first.startswith("sku,quantity,movement,reference\nbench-0000,1,add,")
