"""Token buckets: what they let through, shared by processes, and what addresses may fail."""

import os
import time

import pytest
from falcon.testing import TestClient

from api.access import rate_limits
from api.access.keys import HeldKeys, new_key
from api.access.rate_limits import FAILURES_AT_ONCE, MAX_ADDRESSES, Failures, RateLimits
from api.access.scopes import SCOPES
from api.app import create_app
from api.http.service import Service
from ledger.engine.ledger import Ledger
from projections.reader import Reader
from tests.api.conftest import MakeKey

NOW = 1_000_000.0


def test_a_bucket_lets_a_burst_through_and_then_what_flows_in():
    bucket = RateLimits(per_second=10, at_once=3).of_key(1)

    assert [bucket.take(NOW) for _ in range(3)] == [0.0] * 3
    assert bucket.take(NOW) == pytest.approx(0.1)
    assert bucket.take(NOW + 0.09) == pytest.approx(0.01)
    assert bucket.take(NOW + 0.1) == 0.0
    assert bucket.take(NOW + 0.1) > 0
    assert [bucket.take(NOW + 60) == 0.0 for _ in range(4)] == [True] * 3 + [False]


def test_keys_and_subjects_have_buckets_of_their_own():
    shared = RateLimits(per_second=1, at_once=1)

    buckets = [shared.of_key(1), shared.of_key(2), shared.of_subject("jwt:a"), shared.of_subject("jwt:b")]

    assert [bucket.take(NOW) for bucket in buckets] == [0.0] * 4
    assert all(bucket.take(NOW) > 0 for bucket in [*buckets, shared.of_key(1), shared.of_subject("jwt:a")])


def test_processes_share_the_buckets_that_were_made_before_the_fork():
    bucket = RateLimits(per_second=1, at_once=5).of_key(7)

    for _ in range(5):
        if (pid := os.fork()) == 0:
            os._exit(0 if bucket.take(NOW) == 0.0 else 1)
        assert os.waitpid(pid, 0)[1] == 0

    assert bucket.take(NOW) > 0


def test_an_address_may_fail_a_burst_and_then_has_to_wait(monkeypatch: pytest.MonkeyPatch):
    failures = Failures()
    now = time.monotonic()
    monkeypatch.setattr(rate_limits.time, "monotonic", lambda: now)

    for _ in range(FAILURES_AT_ONCE):
        assert failures.wait("10.0.0.1") == 0.0
        failures.add("10.0.0.1")
    assert failures.wait("10.0.0.1") == pytest.approx(1.0)
    assert failures.wait("10.0.0.2") == 0.0

    monkeypatch.setattr(rate_limits.time, "monotonic", lambda: now + 1.0)
    assert failures.wait("10.0.0.1") == 0.0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("10.0.0.1", "10.0.0.2", False),
    ],
)
def test_an_ipv6_network_is_one_address(one: str, other: str, same: bool):
    failures = Failures()
    for _ in range(2 * FAILURES_AT_ONCE):
        failures.add(one)

    assert (failures.wait(other) > 0) == same


def test_no_more_addresses_are_remembered_than_a_limit():
    failures = Failures()

    for number in range(MAX_ADDRESSES + 10):
        failures.add(f"10.0.{number // 256}.{number % 256}")

    assert len(failures._full_at) == MAX_ADDRESSES


# At the door


@pytest.fixture
def limited(service_url: str, schema: str, ledger: Ledger, make_key: MakeKey):
    """A client whose two keys may ask three times at once, and then hardly ever."""
    keys = [{"Authorization": f"Bearer {make_key(name, *SCOPES)}"} for name in ("first", "second")]
    held = HeldKeys(service_url, schema, RateLimits(per_second=0.01, at_once=3))
    reader = Reader(service_url, schema, max_connections=2)
    yield TestClient(create_app(Service(ledger, reader, 3600), held)), *keys
    held.close()
    reader.close()


def test_a_key_that_asks_too_often_hears_when_to_come_back(limited: tuple[TestClient, dict, dict]):
    client, first, second = limited

    answers = [client.simulate_put("/api/fungible/A", headers=first) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].headers["Content-Type"] == "application/problem+json"
    assert answers[3].json["type"] == "/problems/rate-limited"
    assert 0 < int(answers[3].headers["Retry-After"]) <= 100
    assert client.simulate_get("/api/fungible/A", headers=second).json["version"] == 1
    assert client.simulate_get("/health/live", headers=first).status_code == 200


def test_a_batch_is_let_in_like_one_request_and_counts_as_its_commands(limited: tuple[TestClient, dict, dict]):
    client, first, _ = limited
    commands = [{"command": "put", "sku": str(number)} for number in range(10)]

    answers = [client.simulate_post("/api/batch", json={"commands": commands}, headers=first) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 429]
    assert 300 < int(answers[1].headers["Retry-After"]) <= 800


def test_who_keeps_guessing_is_told_to_wait_and_others_are_not(guarded: TestClient, held: HeldKeys, make_key: MakeKey):
    good = {"Authorization": f"Bearer {make_key('good', 'read')}"}
    held._turn()

    def guess(address: str) -> int:
        headers = {"Authorization": f"Bearer {new_key()}"}
        return guarded.simulate_get("/api/fungible", headers=headers, remote_addr=address).status_code

    answers = [guess("10.0.0.1") for _ in range(FAILURES_AT_ONCE + 5)]

    assert set(answers[:FAILURES_AT_ONCE]) == {401}
    assert answers[-1] == 429
    assert guess("10.0.0.2") == 401
    assert guarded.simulate_get("/api/fungible", headers=good, remote_addr="10.0.0.1").status_code == 200
