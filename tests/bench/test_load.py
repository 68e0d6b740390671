"""Our own load generator against a small server that counts what it is asked."""

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bench.load import LoadError, Tally, answer_size, drive, http_request, measure, total
from bench.measured import Histogram, Measured, middle
from bench.service import free_port


class CountingServer(ThreadingHTTPServer):
    """Counts requests by path; `/refuse` is answered 409, and `/cut` by hanging up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.asked: Counter[str] = Counter()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.server_address[1]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CountingServer

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.asked[f"{self.command} {self.path}"] += 1
        if self.path == "/cut":
            self.close_connection = True
            return
        status = "409 Conflict" if self.path == "/refuse" else "200 OK"
        self.wfile.write(f"HTTP/1.1 {status}\r\nContent-Length: 9\r\n\r\n".encode())
        self.wfile.write(b'{"a": 12}')  # apart from its head, as real servers send it

    do_POST = do_GET


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as counting:
        thread = threading.Thread(target=counting.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield counting
        counting.shutdown()
        thread.join()


def requests_for(*calls: tuple[str, str]) -> list[bytes]:
    return [http_request(method, path, "127.0.0.1") for method, path in calls]


def test_every_answer_is_counted_once(server: CountingServer) -> None:
    tally = drive(server.address, requests_for(("POST", "/add"), ("GET", "/item")), range(3), 0.2)

    assert tally.succeeded == server.asked.total() > 3
    assert tally.latencies.buckets.total() == tally.succeeded
    assert tally.errors == 0
    assert abs(server.asked["POST /add"] - server.asked["GET /item"]) <= 3


def test_a_refusal_is_an_error(server: CountingServer) -> None:
    tally = drive(server.address, requests_for(("GET", "/item"), ("GET", "/refuse")), range(2), 0.2)

    assert (tally.succeeded, tally.errors) == (server.asked["GET /item"], server.asked["GET /refuse"])


def test_a_connection_that_is_cut_is_an_error_and_opened_again(server: CountingServer) -> None:
    tally = drive(server.address, requests_for(("GET", "/item"), ("GET", "/cut")), range(2), 0.2)

    assert (tally.succeeded, tally.errors) == (server.asked["GET /item"], server.asked["GET /cut"])
    assert tally.errors > 2


def test_several_processes_share_the_connections(server: CountingServer) -> None:
    measured = measure(server.address, requests_for(("POST", "/add")), connections=3, seconds=0.3, processes=2)

    assert measured.errors == 0
    assert 0 < measured.rate <= server.asked["POST /add"] / 0.3
    assert 0 < measured.p50_ms <= measured.p99_ms


def test_a_service_that_is_not_there_is_said_to_be_so() -> None:
    with pytest.raises(LoadError, match="no connection to"):
        drive(("127.0.0.1", free_port()), requests_for(("GET", "/item")), range(1), 0.1)


@pytest.mark.parametrize(
    ("received", "found"),
    [
        (b"", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", (200, 40)),
        (b"HTTP/1.1 409 Conflict\r\ncontent-length:12\r\nX: y\r\n\r\n{", (409, 62)),
    ],
)
def test_the_size_of_an_answer_is_known_once_its_head_is_complete(received: bytes, found: Any) -> None:
    assert answer_size(received) == found


def test_an_answer_without_a_length_is_refused() -> None:
    with pytest.raises(ValueError, match="without Content-Length"):
        answer_size(b"HTTP/1.1 200 OK\r\n\r\n")


def test_the_histogram_tells_quantiles_within_a_bucket() -> None:
    histogram, other = Histogram(), Histogram()
    for milliseconds in range(1, 51):
        histogram.record(milliseconds / 1000)
        other.record((milliseconds + 50) / 1000)
    histogram.add(other)

    assert histogram.quantile_ms(0.50) == pytest.approx(50, rel=0.01)
    assert histogram.quantile_ms(0.99) == pytest.approx(99, rel=0.01)
    assert Histogram().quantile_ms(0.5) == 0.0


def test_tallies_add_up_to_one_rate() -> None:
    both = total([Tally(succeeded=10, errors=1, seconds=2.0), Tally(succeeded=30, errors=2, seconds=3.0)])

    assert (both.rate, both.errors) == (15.0, 3)


def test_the_middle_of_rounds_is_a_median_that_hides_no_error() -> None:
    rounds = [Measured(10, 1, 9, 0), Measured(30, 3, 7, 2), Measured(20, 2, 8, 1)]

    assert middle(rounds) == Measured(20, 2, 8, 3)
