"""Followers of the log in front of a real service: who waits, streams or goes away, and what all others notice."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.service import RunningService, running_service

WAITERS = 100
THREADS = 2
FOLLOW = "/api/events?after={after}&wait_seconds=30"


@pytest.fixture
def service(postgres_url: str, schema: str) -> Iterator[RunningService]:
    """One worker of two threads."""
    settings = {"STOCKLEDGER_WORKERS": "1", "STOCKLEDGER_THREADS": str(THREADS)}
    with running_service(settings | {"DATABASE_URL": postgres_url, "STOCKLEDGER_SCHEMA": schema}) as running:
        yield running


def connection(service: RunningService) -> http.client.HTTPConnection:
    parts = urlsplit(service.url)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)


def call(service: RunningService, method: str, path: str) -> tuple[int, Any]:
    with closing(connection(service)) as client:
        client.request(method, path)
        answer = client.getresponse()
        return answer.status, json.loads(answer.read())


def ask(service: RunningService, path: str, *headers: str) -> socket.socket:
    """Send a request and leave the answer to come."""
    parts = urlsplit(service.url)
    client = socket.create_connection((parts.hostname, parts.port), timeout=60)
    client.sendall("\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode())
    return client


def threads(service: RunningService) -> int:
    """How many threads the HTTP worker has: the child that has most."""

    def count(pid: int) -> int:
        with open(f"/proc/{pid}/status") as status:
            return int(next(line.split()[1] for line in status if line.startswith("Threads:")))

    return max(count(pid) for pid in service.children())


def wait_for(condition: Any) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.01)


def test_a_hundred_who_wait_keep_nobody_from_working_and_are_all_told(service: RunningService):
    before = threads(service)
    call(service, "PUT", "/api/fungible/A")
    with ThreadPoolExecutor(WAITERS) as pool:
        waiters = [pool.submit(call, service, "GET", FOLLOW.format(after=1)) for _ in range(WAITERS)]
        wait_for(lambda: threads(service) >= before + WAITERS)
        assert call(service, "GET", "/api/fungible/A")[0] == 200
        assert not any(waiter.done() for waiter in waiters)
        assert call(service, "POST", "/api/fungible/A/add/1")[0] == 200
        answers = [waiter.result() for waiter in waiters]

    assert {(status, body["next_after"]) for status, body in answers} == {(200, 2)}
    wait_for(lambda: threads(service) <= before + THREADS)


def test_who_waits_is_answered_when_the_service_stops(postgres_url: str, schema: str, tmp_path: Path):
    settings = {"STOCKLEDGER_WORKERS": "1", "DATABASE_URL": postgres_url, "STOCKLEDGER_SCHEMA": schema}
    with (tmp_path / "log").open("w+") as log, running_service(settings, log) as service:
        before = threads(service)
        with closing(ask(service, FOLLOW.format(after=0))) as waiter:
            wait_for(lambda: threads(service) > before)
            assert service.stop() == 0
            assert b'{"items":[],"next_after":0,"next_digest":"' in waiter.recv(4096)
        log.seek(0)
        assert "cut after draining" not in log.read()


def test_a_stream_whose_client_has_gone_leaves_nothing_behind(service: RunningService):
    call(service, "PUT", "/api/fungible/A")
    body = json.dumps(
        {"mode": "each", "commands": [{"command": "add", "sku": "A", "quantity": 1, "reason": "x" * 9000}] * 100}
    )
    with closing(connection(service)) as client:
        for _ in range(40):
            client.request("POST", "/api/batch", body, {"Content-Type": "application/json"})
            answer = client.getresponse()
            assert (answer.status, len(answer.read()) > 0) == (200, True)
    before = threads(service)
    for _ in range(12):  # more than may stream at once
        wait_for(lambda: threads(service) <= before + 1)
        stream = ask(service, "/api/events", "Accept: application/x-ndjson")
        assert stream.recv(100).startswith(b"HTTP/1.1 200")
        stream.close()

    assert call(service, "GET", "/api/fungible/A")[0] == 200
