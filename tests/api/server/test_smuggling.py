"""Messages that two readers could take apart differently, and clients that are slow on purpose: against real sockets.

Each is refused with a problem and the end of the connection, so nothing that follows is taken for a request.
"""

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from waitress.buffers import OverflowableBuffer

from api.server.chunks import MAX_LINE_BYTES, Chunks
from api.server.parser import MAX_FIRST_LINE_BYTES, MAX_HEADER_FIELDS
from tests.api.server.test_server import LAST_GET, Toy, assert_problem, read_to_end, running, split_answers, wait_until

# What a smuggler wants to be taken for a request of its own.
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
END = b"0\r\n\r\n"


@pytest.fixture(scope="module")
def toy() -> Iterator[Toy]:
    with running(workers=1, threads=4, slow_seconds=1.0) as toy:
        yield toy


@pytest.mark.parametrize(
    "message",
    [
        CHUNKED + b"Content-Length: 5\r\n\r\n" + END,
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nContent-Length: 5 0\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nContent-Length: \xb2\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length : 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\n Content-Length: 5\r\n\r\nhello",
        CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n" + END,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n" + END,
        b"POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n" + END,
        b"POST / HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\n\r\n" + END,
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
        b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + END,
        b"GET / HTTP/1.1\r\nX-A: 1\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-A: 1\r\n\tfolded\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-A: 1\nX-B: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-A: 1\rX-B: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-A: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-A: a\x0bb\r\n\r\n",
        b"GET / HTTP/1.1\r\nX\x00A: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\n: 1\r\n\r\n",
        b"GET / HTTP/1.1 GET /hidden HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET /\x7f\x0b HTTP/1.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/0.9\r\n\r\n",
        b"GET / HTTP/1.1x\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET\t/ HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_a_head_that_could_be_read_in_two_ways_is_refused_and_ends_the_connection(toy: Toy, message: bytes) -> None:
    answers = toy.exchange(message + HIDDEN)

    assert [answer.status for answer in answers] in ([400], [501])
    assert_problem(answers[0], answers[0].status, answers[0].json["type"].removeprefix("/problems/"))


@pytest.mark.parametrize(
    "body",
    [
        b"5\nhello\r\n" + END,
        b"5\n\r\nhello\r\n" + END,
        b"5\rhello\r\n" + END,
        b"5;a=b\n\r\nhello\r\n" + END,
        b"5;\x00\r\nhello\r\n" + END,
        b"5 \r\nhello\r\n" + END,
        b" 5\r\nhello\r\n" + END,
        b"0x5\r\nhello\r\n" + END,
        b"+5\r\nhello\r\n" + END,
        b"-5\r\nhello\r\n" + END,
        b"\r\n5\r\nhello\r\n" + END,
        b"5\r\nhello\r\n\r\n" + END,
        b"5\r\nhelloX\r\n" + END,
        b"5\r\nhello\n" + END,
        b"5\r\nhello" + END,
        b"5\r\nhello\r" + END,
        b"FFFFFFFFFFFFFFFFF\r\nhello\r\n" + END,
        b"000000005\r\nhello\r\n" + END,
        b"5" + b";a" * MAX_LINE_BYTES,
        b"0\r\nno trailer\r\n\r\n",
        b"0\r\nX-A: 1\n\r\n\r\n",
        b"0\r\n" + b"X-A: 1\r\n" * 2_000 + b"\r\n",
        b"\xff\r\n",
    ],
)
def test_chunks_that_could_be_read_in_two_ways_are_refused_and_end_the_connection(toy: Toy, body: bytes) -> None:
    answers = toy.exchange(CHUNKED + b"\r\n" + body + HIDDEN)

    assert len(answers) == 1
    assert_problem(answers[0], 400, "bad-request")


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (b"5\r\nhello\r\n" + END, 5),
        (b"5;name=value;other\r\nhello\r\n1\r\n!\r\n" + END, 6),
        (b"05\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n", 5),
        (b"A\r\n\r\n\r\n\r\n\r\n\r\n\r\n" + END, 10),
        (END, 0),
    ],
)
def test_chunks_in_order_are_taken_however_they_arrive_and_the_next_request_is_its_own(
    toy: Toy, body: bytes, count: int
) -> None:
    first, second = toy.exchange(CHUNKED + b"\r\n" + body + LAST_GET)
    assert (first.json["body_bytes"], second.json["body_bytes"]) == (count, 0)

    chunks = Chunks(OverflowableBuffer(1 << 20))
    for byte in body:
        assert not chunks.completed
        assert chunks.received(bytes([byte])) == 1
    assert (chunks.completed, chunks.error, len(chunks)) == (True, None, count)


# Limits


def test_a_request_line_has_a_limit(toy: Toy) -> None:
    longest = MAX_FIRST_LINE_BYTES - len("GET / HTTP/1.1")
    ends = b" HTTP/1.1\r\nConnection: close\r\n\r\n"

    (fine,) = toy.exchange(b"GET /" + b"a" * longest + ends)
    (refused,) = toy.exchange(b"GET /" + b"a" * (longest + 1) + ends)

    assert fine.status == 200
    assert_problem(refused, 414, "target-too-long")


def test_a_request_has_only_so_many_fields(toy: Toy) -> None:
    head = b"GET / HTTP/1.1\r\nConnection: close\r\n"

    (fine,) = toy.exchange(head + b"X-A: 1\r\n" * (MAX_HEADER_FIELDS - 1) + b"\r\n")
    (refused,) = toy.exchange(head + b"X-A: 1\r\n" * MAX_HEADER_FIELDS + b"\r\n")

    assert fine.status == 200
    assert_problem(refused, 431, "headers-too-large")


@pytest.mark.parametrize(
    "begun",
    [
        b"G",
        b"GET / HTTP/1.1\r\nX-A: ",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhel",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ],
)
def test_a_request_that_does_not_arrive_is_refused_however_steadily_it_trickles(toy: Toy, begun: bytes) -> None:
    with toy.connect() as client:
        client.sendall(begun)
        client.settimeout(0.05)
        data = b""
        deadline = time.monotonic() + 20
        while not data:
            assert time.monotonic() < deadline
            try:
                data = client.recv(1 << 16)
            except TimeoutError:
                if not begun.endswith(b"hel"):  # two bytes more would be all of it
                    client.sendall(b"x")
        client.settimeout(20)
        (answer,) = split_answers(data + read_to_end(client))

    assert_problem(answer, 408, "request-timeout")


def test_who_takes_an_answer_a_byte_at_a_time_is_cut_and_others_are_served(toy: Toy) -> None:
    with ExitStack() as stack:
        slow = stack.enter_context(socket.socket())
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow.settimeout(20)
        slow.connect(("127.0.0.1", toy.port))
        slow.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        state = select.poll()
        state.register(slow, 0)  # what cannot be missed: an end of the connection

        def is_cut() -> bool:
            assert slow.recv(1)
            return bool(state.poll(0))

        wait_until(is_cut)

        assert toy.exchange(LAST_GET)[0].status == 200


# What every answer carries


@pytest.mark.parametrize(
    "message", [LAST_GET, b"GET /empty HTTP/1.1\r\nConnection: close\r\n\r\n", b"nonsense\r\n\r\n"]
)
def test_every_answer_says_how_browsers_and_caches_may_use_it_and_not_who_made_it(toy: Toy, message: bytes) -> None:
    (answer,) = toy.exchange(message)

    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert not {"Server", "Via", "X-Powered-By"} & set(answer.headers)
