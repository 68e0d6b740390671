"""The HTTP server and its parent process, as real processes behind real sockets."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest
from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser

from api.server.parser import MAX_BODY_BYTES, Parser
from api.server.server import open_socket

PATIENCE_SECONDS = 20.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST_GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Toy:
    """A running toy_app."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.port = int(process.stdout.readline())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)

    def exchange(self, message: bytes) -> list[Answer]:
        """Send a message, then read answers until the server ends the connection."""
        with self.connect() as client:
            client.sendall(message)
            return split_answers(read_to_end(client))

    def worker(self) -> int:
        """The pid of a worker that answers now."""
        return int(self.exchange(LAST_GET)[0].json["pid"])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def running(**settings: float) -> Iterator[Toy]:
    command = [sys.executable, "-m", "tests.api.toy_app", json.dumps(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            toy = Toy(process)
            toy.worker()  # until a worker runs, SIGTERM just ends it
            yield toy
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@pytest.fixture(scope="module")
def toy() -> Iterator[Toy]:
    """One server for all tests that only talk to it."""
    with running(workers=1, threads=4) as toy:
        yield toy


def read_to_end(client: socket.socket) -> bytes:
    pieces = []
    while piece := client.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def read_answer(client: socket.socket) -> Answer:
    """One answer with a Content-Length, from a connection that stays open."""
    data = b""
    while not (answers := split_answers(data)):
        piece = client.recv(1 << 16)
        assert piece, data
        data += piece
    assert len(answers) == 1
    return answers[0]


def split_answers(data: bytes) -> list[Answer]:
    """The complete answers at the start of `data`; chunked bodies stay as they are."""
    answers = []
    while b"\r\n\r\n" in data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        end = b"0\r\n\r\n"
        chunked = headers.get("Transfer-Encoding") == "chunked"
        length = data.find(end) + len(end) if chunked else int(headers.get("Content-Length", 0))
        if len(data) < length:
            break
        answers.append(Answer(int(first.split()[1]), headers, data[:length]))
        data = data[length:]
    return answers


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def send_for_ever(client: socket.socket) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        client.sendall(b"x")
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_problem(answer: Answer, status: int, slug: str) -> None:
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Request-Id"]
    assert answer.headers["Connection"] == "close"
    assert answer.json["type"] == f"/problems/{slug}"
    assert answer.json["status"] == status
    assert sorted(answer.json) == ["detail", "status", "title", "type"]


# Processes


def test_a_killed_worker_is_replaced_while_the_others_serve() -> None:
    with running(workers=2) as toy:
        victim = toy.worker()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: not is_alive(victim))

        assert victim not in {toy.worker() for _ in range(20)}
        wait_until(lambda: len({toy.worker() for _ in range(10)}) == 2)


def test_a_worker_that_ends_unasked_is_replaced() -> None:
    with running(workers=1) as toy:
        first = toy.worker()
        os.kill(first, signal.SIGTERM)

        wait_until(lambda: not is_alive(first))
        assert toy.worker() != first


def test_sigterm_stops_everything_with_status_0() -> None:
    with running(workers=2) as toy:
        workers = {toy.worker() for _ in range(20)}
        assert toy.stop() == 0
        assert not any(map(is_alive, workers))


def test_one_ctrl_c_is_one_clean_stop() -> None:
    with running(workers=2) as toy, toy.connect() as client:
        client.sendall(b"GET /slow HTTP/1.1\r\n\r\n")
        time.sleep(0.2)
        os.killpg(toy.process.pid, signal.SIGINT)

        assert [answer.status for answer in split_answers(read_to_end(client))] == [200]
        assert toy.process.wait(PATIENCE_SECONDS) == 0


def test_a_worker_leaves_ctrl_c_to_its_parent() -> None:
    with running(workers=1) as toy:
        worker = toy.worker()
        os.kill(worker, signal.SIGINT)
        time.sleep(0.2)
        assert toy.worker() == worker


def test_a_second_ctrl_c_stops_at_once() -> None:
    with running(workers=1, drain_seconds=60, stop_seconds=60) as toy, toy.connect() as client:
        client.sendall(b"GET /stuck HTTP/1.1\r\n\r\n")
        time.sleep(0.2)
        os.killpg(toy.process.pid, signal.SIGINT)
        time.sleep(0.2)
        assert toy.process.poll() is None
        os.killpg(toy.process.pid, signal.SIGINT)

        assert toy.process.wait(PATIENCE_SECONDS) == 1


def test_a_worker_that_does_not_stop_is_killed() -> None:
    with running(workers=1, stop_seconds=0.3) as toy:
        worker = toy.worker()
        os.kill(worker, signal.SIGSTOP)
        assert toy.stop() == 1
        assert not is_alive(worker)


def test_workers_end_when_their_parent_is_killed() -> None:
    with running(workers=2) as toy:
        workers = {toy.worker() for _ in range(20)}
        toy.process.kill()
        wait_until(lambda: not any(map(is_alive, workers)))


def test_a_server_without_a_parent_heeds_sigint() -> None:
    with running(workers=0) as toy:
        assert toy.worker() == toy.process.pid
        toy.process.send_signal(signal.SIGINT)
        assert toy.process.wait(PATIENCE_SECONDS) == 0


def test_a_child_that_keeps_dying_is_restarted_ever_more_slowly_and_its_failures_are_logged() -> None:
    program = """if True:
        import logging, os, signal, sys, time
        from api.server.supervisor import Child, supervise
        logging.basicConfig(level=logging.INFO)
        began, ticks = time.monotonic(), []
        def fail():
            print("started", flush=True)
            raise RuntimeError("no luck")
        def tick():
            ticks.append(time.monotonic())
            if len(ticks) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            raise ValueError("a tick may fail")
        sys.exit(supervise([Child("luckless", fail)], on_tick=tick))
    """
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_SECONDS)

    assert ended.returncode == 0
    assert 2 <= ended.stdout.count("started") <= 5
    assert "luckless failed" in ended.stderr
    assert "RuntimeError: no luck" in ended.stderr
    assert "luckless ended (exit code 1)" in ended.stderr
    assert "ValueError: a tick may fail" in ended.stderr


# Draining


def test_requests_that_run_when_sigterm_comes_are_answered_in_full() -> None:
    with running(workers=2, threads=8) as toy, ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        clients = [stack.enter_context(toy.connect()) for _ in range(8)]
        for client in clients:
            client.sendall(b"GET /slow HTTP/1.1\r\n\r\n")
        time.sleep(0.2)
        assert toy.stop() == 0

        answers = [split_answers(data) for data in pool.map(read_to_end, clients)]
    assert [[answer.status for answer in each] for each in answers] == [[200]] * 8
    assert all(each[0].headers["Connection"] == "close" and each[0].json["path"] == "/slow" for each in answers)


def wait_until_pending(pid: int, number: int) -> None:
    """Until a signal waits for a process that is stopped; or a while, in case it has taken it before it stopped."""
    until = time.monotonic() + 2
    while time.monotonic() < until:
        with open(f"/proc/{pid}/status") as status:
            pending = next(int(line.split()[1], 16) for line in status if line.startswith("ShdPnd:"))
        if pending >> (number - 1) & 1:
            return
        time.sleep(0.005)


def test_what_has_arrived_before_the_drain_is_answered_and_idle_connections_are_closed() -> None:
    with running(workers=1) as toy, ExitStack() as stack:
        used, silent, half = (stack.enter_context(toy.connect()) for _ in range(3))
        for client in (used, silent, half):
            client.sendall(GET)
        worker = {read_answer(client).json["pid"] for client in (used, silent, half)}.pop()
        os.kill(worker, signal.SIGSTOP)
        used.sendall(GET + GET)
        half.sendall(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhel")
        fresh = stack.enter_context(toy.connect())
        fresh.sendall(GET)
        toy.process.send_signal(signal.SIGTERM)
        wait_until_pending(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGCONT)
        half.sendall(b"lo")

        assert [answer.status for answer in split_answers(read_to_end(used))] == [200, 200]
        assert split_answers(read_to_end(fresh))[0].headers["Connection"] == "close"
        assert split_answers(read_to_end(half))[0].json["body_bytes"] == 5
        assert read_to_end(silent) == b""
        assert toy.process.wait(PATIENCE_SECONDS) == 0


def test_no_request_of_busy_clients_is_lost_in_a_drain() -> None:
    def talk(toy: Toy) -> Answer:
        with toy.connect() as client:
            while True:
                client.sendall(GET)
                answer = read_answer(client)
                assert answer.status == 200
                if answer.headers.get("Connection") == "close":
                    return answer

    with running(workers=2) as toy, ThreadPoolExecutor(8) as pool:
        talks = [pool.submit(talk, toy) for _ in range(8)]
        time.sleep(0.3)
        assert toy.stop() == 0
        assert all(talk.result().status == 200 for talk in talks)


def test_a_drain_gives_up_on_a_request_that_never_ends() -> None:
    with running(workers=1, drain_seconds=0.3) as toy, toy.connect() as client:
        client.sendall(b"GET /stuck HTTP/1.1\r\n\r\n")
        time.sleep(0.2)
        assert toy.stop() == 0


# Refusals of the server itself


@pytest.mark.parametrize(
    ("message", "status", "slug"),
    [
        (b"\x16\x03\x01\x00\r\n\r\n", 400, "bad-request"),
        (b"get / HTTP/1.1\r\n\r\n", 400, "bad-request"),
        (b"GET http://[::1/ HTTP/1.1\r\n\r\n", 400, "bad-request"),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400, "bad-request"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, "bad-request"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "bad-request"),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400, "bad-request"),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, "bad-request"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nsix\r\n", 400, "bad-request"),
        (b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: x\r\n\r\n", 400, "bad-request"),
        (b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 70_000 + b"\r\n\r\n", 431, "headers-too-large"),
        (b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 70_000, 431, "headers-too-large"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "not-implemented"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", 413, "body-too-large"),
        (b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 20000000\r\n\r\n", 413, "body-too-large"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n" + b"x" * 1_100_000, 413, "body-too-large"),
        (b"GET /boom HTTP/1.1\r\n\r\n", 500, "internal-error"),
    ],
)
def test_every_refusal_of_the_server_is_a_problem(toy: Toy, message: bytes, status: int, slug: str) -> None:
    (answer,) = toy.exchange(message)
    assert_problem(answer, status, slug)


def test_a_refusal_tells_nothing_of_the_inside_and_keeps_the_request_id(toy: Toy) -> None:
    (answer,) = toy.exchange(b"GET /boom HTTP/1.1\r\nX-Request-Id: mine-1\r\n\r\n")

    assert answer.headers["X-Request-Id"] == "mine-1"
    assert "Server" not in answer.headers
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body


def test_a_request_id_that_is_not_sensible_is_replaced(toy: Toy) -> None:
    (answer,) = toy.exchange(b"GET /boom HTTP/1.1\r\nX-Request-Id: not mine\r\n\r\n")
    assert len(answer.headers["X-Request-Id"]) == 32


def test_a_refused_head_request_is_answered_without_a_body(toy: Toy) -> None:
    with toy.connect() as client:
        client.sendall(b"HEAD /boom HTTP/1.1\r\n\r\n")
        head, _, body = read_to_end(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert body == b""


def test_a_refusal_waits_for_the_answers_before_it(toy: Toy) -> None:
    answers = toy.exchange(GET + b"nonsense\r\n\r\n" + GET)
    assert [answer.status for answer in answers] == [200, 400]


@pytest.mark.parametrize("listens", [True, False])
def test_a_body_of_20_mb_is_refused_and_the_answer_is_not_lost(toy: Toy, listens: bool) -> None:
    left = 20_000_000
    with toy.connect() as client:
        client.sendall(b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % left)
        while left and not (listens and select.select([client], [], [], 0)[0]):
            left -= client.send(b"x" * min(left, 1 << 16))
        (answer,) = split_answers(read_to_end(client))

    assert_problem(answer, 413, "body-too-large")


def test_a_body_of_exactly_1_mib_is_taken(toy: Toy) -> None:
    head = b"POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % MAX_BODY_BYTES
    (answer,) = toy.exchange(head + b"x" * MAX_BODY_BYTES)
    assert answer.json["body_bytes"] == MAX_BODY_BYTES


# The protocol


def test_pipelined_requests_are_answered_in_order(toy: Toy) -> None:
    paths = ["/1", "/slow", "/3", "/4", "/5"]
    with toy.connect() as client:
        client.sendall(b"".join(b"GET %b HTTP/1.1\r\n\r\n" % path.encode() for path in paths) + LAST_GET)
        answers = split_answers(read_to_end(client))
    assert [answer.json["path"] for answer in answers] == [*paths, "/"]


def test_the_target_reaches_the_application_undecoded(toy: Toy) -> None:
    (answer,) = toy.exchange(b"GET /a%2Fb%20c/%C3%9C?q=%2F HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.json["target"] == "/a%2Fb%20c/%C3%9C?q=%2F"


def test_http_1_0_ends_the_connection_unless_asked_to_keep_it(toy: Toy) -> None:
    (answer,) = toy.exchange(b"GET / HTTP/1.0\r\n\r\n")
    assert answer.headers["Connection"] == "close"

    keep = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    first, second, third = toy.exchange(keep + keep + b"GET / HTTP/1.0\r\n\r\n")
    assert (first.headers["Connection"], second.headers["Connection"]) == ("Keep-Alive", "Keep-Alive")
    assert third.headers["Connection"] == "close"


@pytest.mark.parametrize("request_line", [b"GET /empty HTTP/1.1", b"GET /stream HTTP/1.1", b"GET / HTTP/1.1"])
def test_answers_of_every_kind_keep_the_connection_open(toy: Toy, request_line: bytes) -> None:
    answers = toy.exchange(request_line + b"\r\n\r\n" + LAST_GET)
    assert len(answers) == 2
    assert "Connection" not in answers[0].headers


def test_a_stream_is_sent_in_chunks(toy: Toy) -> None:
    (answer,) = toy.exchange(b"GET /stream HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.body == b"4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"


@pytest.mark.parametrize("path", [b"/", b"/stream", b"/empty"])
def test_head_is_answered_without_a_body(toy: Toy, path: bytes) -> None:
    with toy.connect() as client:
        client.sendall(b"HEAD %b HTTP/1.1\r\n\r\n" % path + LAST_GET)
        head, _, rest = read_to_end(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 20")
    assert [answer.json["method"] for answer in split_answers(rest)] == ["GET"]


def test_a_body_is_asked_for_when_the_client_waits_for_that(toy: Toy) -> None:
    with toy.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n")
        assert client.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        (answer,) = split_answers(read_to_end(client))
    assert answer.json["body_bytes"] == 5


def test_a_request_that_waits_to_continue_without_a_body_is_answered(toy: Toy) -> None:
    (answer,) = toy.exchange(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
    assert answer.status == 200


def test_a_chunked_body_arrives_whole(toy: Toy) -> None:
    body = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    (answer,) = toy.exchange(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + body)
    assert answer.json["body_bytes"] == 11


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_client_that_has_stopped_sending_still_gets_its_answers(toy: Toy, count: int) -> None:
    with toy.connect() as client:
        client.sendall(b"GET /slow HTTP/1.1\r\n\r\n" + GET * (count - 1))
        client.shutdown(socket.SHUT_WR)
        answers = split_answers(read_to_end(client))
    assert [answer.json["path"] for answer in answers] == ["/slow", "/", "/"][:count]


def test_a_large_answer_reaches_a_slow_reader_whole(toy: Toy) -> None:
    with toy.connect() as client:
        client.sendall(b"GET /large HTTP/1.1\r\nConnection: close\r\n\r\n")
        time.sleep(0.3)
        (answer,) = split_answers(read_to_end(client))
    assert len(answer.body) == 30_000_000


def test_stalled_clients_block_nobody_and_are_cut() -> None:
    with running(workers=1, threads=2, idle_seconds=1) as toy, ExitStack() as stack:
        stalled = [stack.enter_context(toy.connect()) for _ in range(20)]
        for client in stalled:
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhel")
        deaf = stack.enter_context(toy.connect())
        deaf.sendall(b"GET /large HTTP/1.1\r\n\r\n")

        assert toy.exchange(LAST_GET)[0].status == 200
        assert [read_to_end(client) for client in stalled] == [b""] * 20
        with pytest.raises(ConnectionError):
            send_for_ever(deaf)


def test_a_port_that_is_taken_is_an_error() -> None:
    with open_socket("127.0.0.1", 0) as sock, pytest.raises(OSError, match="in use"):
        open_socket("127.0.0.1", sock.getsockname()[1])


@pytest.mark.parametrize(
    "fields",
    [
        b"Host: x\r\nX-A: 1\r\nx-a:\t2 \r\nAccept: */*",
        b"X-A: 1\r\nX-A: " + b"long" * 100 + b"\r\nX-A: 3",
        b"X_A: 1\r\nContent_Length: 5\r\nContent-Length: 7",
        b"X-A: \xe9\xff\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue",
        b"X-A: 1\n\r\nX-B: 2",
        b"X-A : 1",
        b": 1",
        b"X-A: a\x00b",
        b"Content-Length: 5\r\ncontent-length: 5",
    ],
)
def test_the_parser_reads_headers_exactly_as_waitress_does(fields: bytes) -> None:
    parsers = HTTPRequestParser(Adjustments()), Parser(Adjustments())
    for parser in parsers:
        parser.received(b"POST /a?b HTTP/1.1\r\n" + fields + b"\r\n\r\n")

    theirs, ours = ((p.headers, p.chunked, p.content_length, p.connection_close, str(p.error)) for p in parsers)
    if parsers[0].error is None:
        assert ours == theirs
    assert type(parsers[1].error) is type(parsers[0].error)


def test_requests_that_wait_for_gathered_answers_need_no_thread():
    with running(threads=1) as toy, ThreadPoolExecutor(60) as callers:
        request = b"GET /gathered HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answers = [answer for each in callers.map(toy.exchange, [request] * 60) for answer in each]

    assert len(answers) == 60
    # Each came back with the others that waited meanwhile: one by one, or by threads, it would be "of 1".
    assert max(int(answer.json["path"].rpartition(" ")[2]) for answer in answers) > 10


def test_pipelined_requests_that_wait_are_answered_in_order():
    with running() as toy:
        paths = [f"/gathered/{number}" for number in range(5)]
        message = b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths) + LAST_GET
        answers = toy.exchange(message)

    assert [answer.json["path"].partition(" ")[0] for answer in answers] == [*paths, "/"]
