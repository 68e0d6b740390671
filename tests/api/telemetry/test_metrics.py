"""/metrics: the numbers of all processes add up, never fall, and are as many as there are routes, not paths."""

import json
import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from falcon import testing
from prometheus_client.parser import text_string_to_metric_families

from api.telemetry.catalogue import METRICS
from ledger.store.connection import Connection
from tests.chaos.service import wait_until
from tests.service import RunningService, running_service

DASHBOARD = Path(__file__).parents[3] / "docs" / "grafana-dashboard.json"
WORKERS = {"worker-1", "worker-2"}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of all samples of a name that have these labels."""
    return sum(v for (found, has), v in samples.items() if found == f"stockledger_{name}" and has >= labels.items())


def values(samples: Samples, name: str, label: str) -> set[str]:
    return {dict(has)[label] for found, has in samples if found == f"stockledger_{name}"}


class Caller:
    def __init__(self, service: RunningService) -> None:
        self._service = service

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> int:
        headers = {"Content-Type": "application/json", **headers}
        request = urllib.request.Request(self._service.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def metrics(self) -> Samples:
        with urllib.request.urlopen(self._service.url + "/metrics", timeout=30) as answer:
            return parsed(answer.read().decode())


@pytest.fixture
def service(postgres_url: str, schema: str) -> Iterator[RunningService]:
    with running_service({"DATABASE_URL": postgres_url, "STOCKLEDGER_SCHEMA": schema}) as started:
        yield started


def test_the_numbers_of_all_workers_add_up_and_outlive_a_worker_that_is_killed(service: RunningService):
    caller = Caller(service)
    caller.send("PUT", "/api/fungible/A", b'{"amount_in_stock": 5}')
    for number in range(40):
        caller.send("POST", "/api/fungible/A/add/1", **{"Idempotency-Key": f"k{number % 20}"})
        caller.send("GET", f"/api/fungible/NONE-{number}")
    caller.send("POST", "/api/fungible/A/reserve/1000")

    def counted() -> tuple[float, ...]:
        found = caller.metrics()
        return (
            total(found, "http_requests_total", method="POST", route="/api/fungible/{sku}/add/{quantity_text}"),
            total(found, "http_requests_total", method="GET", route="/api/fungible/{sku}", status="404"),
            total(found, "http_request_duration_seconds_count", method="GET", route="/api/fungible/{sku}"),
            total(found, "commands_total", command="AddStock", outcome="recorded"),
            total(found, "commands_total", command="AddStock", outcome="replayed"),
            total(found, "commands_total", command="MakeReservation", outcome="insufficient-stock"),
            total(found, "http_problems_total", problem="unknown-product"),
            total(found, "transaction_commands_sum"),
        )

    expected = (40, 40, 40, 20, 20, 1, 40, 42)
    wait_until(lambda: counted() == expected, 10, "every request is counted once")
    victim = max(pid for pid in service.children() if len(os.listdir(f"/proc/{pid}/task")) > 32)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: total(caller.metrics(), "process_starts_total") == 5, 10, "the worker is replaced")
    assert counted() == expected
    for _ in range(4):
        caller.send("POST", "/api/fungible/A/add/1")
    wait_until(lambda: counted() == (44, 40, 40, 24, 20, 1, 40, 46), 10, "what came since is counted too")


def test_every_metric_has_a_sample_and_each_process_its_own(service: RunningService):
    caller = Caller(service)
    caller.send("PUT", "/api/fungible/A", b'{"amount_in_stock": 5}')
    caller.send("GET", "/api/fungible/B")

    def names() -> set[str]:
        return {name for name, _ in caller.metrics()}

    shown = {metric.name + ("_count" if metric.kind == "histogram" else "") for metric in METRICS}
    wait_until(lambda: shown <= names(), 10, "there is a sample of every metric")

    def processes(name: str) -> set[str]:
        return values(caller.metrics(), name, "process")

    wait_until(lambda: processes("process_threads") == WORKERS | {"expiry", "follower"}, 10, "every process is shown")
    wait_until(lambda: processes("http_connections") == WORKERS, 10, "each worker's connections are shown")
    found = caller.metrics()
    assert total(found, "database_up") == 1
    assert total(found, "log_position") == 2


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
def test_callers_cannot_make_up_labels(client: testing.TestClient):
    for number in range(20):
        client.simulate_get(f"/no/such/path-{number}")
        client.simulate_get(f"/api/fungible/sku-{number}?x={number}")
        client.simulate_request(f"VERB{number}", "/api/fungible/A")
        client.simulate_request("PATCH", f"/api/reservations/{number}")

    found = parsed(client.simulate_get("/metrics").text)

    assert values(found, "http_requests_total", "route") == {"unmatched", "/api/fungible/{sku}"}
    assert values(found, "http_requests_total", "method") == {"other", "GET"}
    assert total(found, "http_requests_total") == 80


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [("", "text/plain; version="), ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text")],
)
def test_metrics_come_in_the_form_that_the_caller_reads(client: testing.TestClient, accept: str, media_type: str):
    answer = client.simulate_get("/metrics", headers={"Accept": accept} if accept else {})

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith(media_type)
    assert "stockledger_build_info" in answer.text


def test_a_scrape_is_answered_without_the_databases_numbers_where_it_is_not_migrated(
    client: testing.TestClient, conn: Connection
):
    conn.execute("DELETE FROM schema_migrations")

    found = parsed(client.simulate_get("/metrics").text)

    assert total(found, "database_up") == 0
    assert "stockledger_log_position" not in {name for name, _ in found}


def test_names_follow_the_conventions():
    for metric in METRICS:
        assert re.fullmatch(r"stockledger_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.help.endswith("."), metric.name
        assert bool(metric.bounds) == (metric.kind == "histogram")
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_the_dashboard_asks_for_metrics_that_there_are_by_labels_that_they_have():
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    labels = {metric.name: set(metric.labels) for metric in METRICS}
    for metric in METRICS:
        if metric.kind == "histogram":
            labels |= {metric.name + end: {*metric.labels, "le"} for end in ("_bucket", "_count", "_sum")}

    asked = {name for expression in expressions for name in re.findall(r"stockledger_\w+", expression)}

    assert asked <= set(labels)
    assert {metric.name for metric in METRICS} <= {re.sub("_(bucket|count|sum)$", "", name) for name in asked}
    for expression in expressions:
        known = set().union(*(labels[name] for name in re.findall(r"stockledger_\w+", expression)), {"job"})
        by = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
        assert by <= known, expression
