"""An in-memory stand-in for the fungible calls of the API, which can also be told to fail as networks do."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class FakeShop(ThreadingHTTPServer):
    """Levels by SKU; `busy` and `cut` say for how many more writes to answer 503, or to write and then hang up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.levels: dict[str, list[int]] = {}
        self.bodies: list[tuple[str, dict[str, object]]] = []
        self.answered: dict[str, int] = {}
        self.busy = self.cut = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def write(self, key: str, sku: str, verb: str, quantity: int, body: dict[str, object]) -> int:
        """Carry out one write, once for each key, and return its status."""
        if key not in self.answered:
            self.bodies.append((f"{verb} {sku} {quantity}", body))
            self.answered[key] = self._apply(self.levels.setdefault(sku, [0, 0]), verb, quantity)
        return self.answered[key]

    @staticmethod
    def _apply(level: list[int], verb: str, quantity: int) -> int:
        if verb in ("remove", "reserve") and quantity > level[0] - level[1]:
            return 409
        level[0] += {"add": quantity, "remove": -quantity}.get(verb, 0)
        level[1] += quantity if verb == "reserve" else 0
        return 200


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeShop

    def do_GET(self) -> None:
        if self.path == "/health/ready":
            return self.answer(200, {})
        amount, reserved = self.server.levels.get(unquote(self.path.split("/")[3]), (None, None))
        found = {"amount_in_stock": amount, "reserved_quantity": reserved}
        return self.answer(200, found) if amount is not None else self.answer(404, {})

    def do_PUT(self) -> None:
        self.do_write("put", 0)

    def do_POST(self) -> None:
        _, _, _, _, verb, quantity = self.path.split("/")
        self.do_write(verb, int(quantity))

    def do_write(self, verb: str, quantity: int) -> None:
        body, sku = json.loads(self.rfile.read(int(self.headers["Content-Length"]))), unquote(self.path.split("/")[3])
        with self.server.lock:
            if self.server.busy:
                self.server.busy -= 1
                return self.answer(503, {"title": "busy"})
            status = self.server.write(self.headers["Idempotency-Key"], sku, verb, quantity, body)
            if self.server.cut:
                self.server.cut -= 1
                self.close_connection = True
                return None
        return self.answer(status, {})

    def answer(self, status: int, body: dict[str, object]) -> None:
        payload = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} x\r\nContent-Length: {len(payload)}\r\nRetry-After: 0\r\n\r\n"
        self.wfile.write(head.encode() + payload)


@contextmanager
def fake_shop() -> Iterator[FakeShop]:
    with FakeShop() as shop:
        thread = threading.Thread(target=shop.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield shop
        finally:
            shop.shutdown()
            thread.join()
