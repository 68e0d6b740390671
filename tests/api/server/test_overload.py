"""Overload: who has waited too long is turned away before any work is done, and told when to come back."""

import time

import pytest
from falcon.testing import TestClient


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/fungible/A"), ("PUT", "/api/fungible/A")])
def test_a_request_that_waited_too_long_for_a_thread_is_turned_away(client: TestClient, method: str, path: str):
    arrived = {"stockledger.arrived": time.monotonic() - 5}

    answer = client.simulate_request(method, path, extras=arrived)

    assert (answer.status_code, answer.json["type"]) == (503, "/problems/busy")
    assert answer.headers["Retry-After"] == "1"
    assert client.simulate_get("/api/fungible").json["items"] == []


def test_a_request_that_waited_a_little_is_served(client: TestClient):
    arrived = {"stockledger.arrived": time.monotonic() - 0.5}

    assert client.simulate_put("/api/fungible/A", extras=arrived).status_code == 200
