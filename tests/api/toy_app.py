"""A small application behind the real server, for test_server.py: `python -m tests.api.toy_app '{"workers": 2}'`.

Prints its port, then runs as the service does. Settings: workers (0: no parent process), threads, idle_seconds,
slow_seconds, drain_seconds, stop_seconds. What blocks runs in threads, everything else is carried in the loop.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from api.server.server import open_socket, serve_worker
from api.server.supervisor import Child, supervise
from ledger.engine.batching import Batcher, Ticket

SETTINGS = {
    "workers": 1,
    "threads": 8,
    "idle_seconds": 60.0,
    "slow_seconds": 30.0,
    "drain_seconds": 10.0,
    "stop_seconds": 15.0,
}

BLOCKING = ("/slow", "/stuck", "/stream", "/large")
SETTLING_SECONDS = 0.2
_batcher: list[Batcher[str, str]] = []  # made at the first request: in the worker


def settle(tickets: list[Ticket[str, str]]) -> None:
    time.sleep(SETTLING_SECONDS)
    for ticket in tickets:
        ticket.answer(f"{ticket.question} of {len(tickets)}")


def gathered(path: str) -> str:
    if not _batcher:
        _batcher.append(Batcher("toy", settle, max_together=1000, max_waiting=1000))
    return _batcher[0].ask(path)


def app(environ: dict[str, Any], start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    if path == "/boom":
        raise RuntimeError("a secret of the application")
    if path.startswith("/slow"):
        time.sleep(0.5)
    if path == "/stuck":
        time.sleep(60)
    if path == "/empty":
        start_response("204 No Content", [])
        return []
    if path == "/stream":
        start_response("200 OK", [("content-type", "text/plain")])
        return stream()
    if path == "/large":
        start_response("200 OK", [("content-length", "30000000")])
        return (b"x" * 1_000_000 for _ in range(30))
    if path.startswith("/gathered"):
        path = gathered(path)
    body = environ["wsgi.input"].read()
    answer = {"pid": os.getpid(), "method": environ["REQUEST_METHOD"], "target": environ["REQUEST_URI"]}
    text = json.dumps({**answer, "path": path, "body_bytes": len(body)}).encode()
    start_response("200 OK", [("content-type", "application/json"), ("content-length", str(len(text)))])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else text]


def stream() -> Iterator[bytes]:
    yield b"one "
    yield b"two"


def main() -> int:
    settings = {**SETTINGS, **json.loads(sys.argv[1])}
    sock = open_socket("127.0.0.1", 0)
    print(sock.getsockname()[1], flush=True)

    def work() -> None:
        serve_worker(
            app,
            sock,
            threads=settings["threads"],
            runs_inline=lambda request: not request.path.startswith(BLOCKING),
            drain_seconds=settings["drain_seconds"],
            idle_seconds=settings["idle_seconds"],
            slow_seconds=settings["slow_seconds"],
        )

    if not settings["workers"]:
        work()
        return 0
    children = [Child(f"worker {number}", work) for number in range(settings["workers"])]
    return supervise(children, stop_seconds=settings["stop_seconds"])


if __name__ == "__main__":
    sys.exit(main())
