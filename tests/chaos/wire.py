"""A caller's way to the service, which writes down what it sent when, and what came back."""

import http.client
import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Protocol

from falcon import testing

from tests.chaos.calls import Call
from tests.chaos.notes import Attempt

# Longer than the service may take for any answer.
PATIENCE_SECONDS = 10.0

Address = tuple[str, int]


class Wire(Protocol):
    def send(self, call: Call, key: str | None = None) -> Attempt:
        """Make a call under a request id of its own; whatever happens to it is in the attempt."""

    def close(self) -> None: ...


class Direct:
    """Straight to an application in this process."""

    def __init__(self, client: testing.TestClient) -> None:
        self._client = client

    def send(self, call: Call, key: str | None = None) -> Attempt:
        attempt = Attempt(uuid.uuid4().hex, time.monotonic())
        headers = _headers(attempt.request_id, call, key)
        result = self._client.simulate_request(call.method, call.path, headers=headers, body=_encoded(call))
        _take_in(attempt, result.status_code, result.headers, result.content)
        return attempt

    def close(self) -> None:
        pass


class Http:
    """Keeps one connection open; `address` is asked again for each new one, since a service may move when restarted."""

    def __init__(self, address: Callable[[], Address]) -> None:
        self._address = address
        self._connection: http.client.HTTPConnection | None = None

    def send(self, call: Call, key: str | None = None) -> Attempt:
        attempt = Attempt(uuid.uuid4().hex, time.monotonic())
        try:
            connection = self._connected()
        except OSError:
            attempt.never_sent = True
            return attempt
        try:
            connection.request(call.method, call.path, _encoded(call), _headers(attempt.request_id, call, key))
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return attempt
        _take_in(attempt, response.status, response.headers, body)
        if response.will_close:
            self.close()
        return attempt

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            connection = http.client.HTTPConnection(*self._address(), timeout=PATIENCE_SECONDS)
            connection.connect()
            self._connection = connection
        return self._connection


def _encoded(call: Call) -> bytes | None:
    return None if call.body is None else json.dumps(call.body).encode()


def _headers(request_id: str, call: Call, key: str | None) -> dict[str, str]:
    headers = {"X-Request-Id": request_id}
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    if key is not None:
        headers["Idempotency-Key"] = key
    return headers


def _take_in(attempt: Attempt, status: int, headers: Mapping[str, str], body: bytes) -> None:
    attempt.answered = time.monotonic()
    attempt.status = status
    position = headers.get("Ledger-Position")
    attempt.position = None if position is None else int(position)
    attempt.replayed = headers.get("Idempotent-Replayed") == "true"
    attempt.retry_after = headers.get("Retry-After")
    attempt.body = json.loads(body)
    attempt.slug = attempt.body.get("type", "").removeprefix("/problems/")
