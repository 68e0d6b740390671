"""Traces: a span for each request, within its caller's trace, sent by OpenTelemetry's own protocol."""

import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.service import running_service

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.received: list[ExportTraceServiceRequest] = []


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as started:
        threading.Thread(target=started.serve_forever, daemon=True).start()
        yield started
        started.shutdown()


def test_each_request_is_a_span_of_its_callers_trace(collector: Collector, postgres_url: str, schema: str):
    settings = {
        "DATABASE_URL": postgres_url,
        "STOCKLEDGER_SCHEMA": schema,
        "STOCKLEDGER_TRACES": "on",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_SERVICE_NAME": "shop",
    }
    with running_service(settings) as service:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "r1"}
        urllib.request.urlopen(
            urllib.request.Request(f"{service.url}/api/fungible/A", headers=headers, method="PUT"), timeout=30
        ).close()
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{service.url}/api/fungible/B?secret=1", timeout=30)
        assert service.stop() == 0  # and with it, what waits is sent

    resources = [each for request in collector.received for each in request.resource_spans]
    spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
    by_name = {span.name: span for span in spans}
    put, get = by_name["PUT /api/fungible/{sku}"], by_name["GET /api/fungible/{sku}"]
    attributes = {each.key: each.value.string_value or each.value.int_value for each in put.attributes}

    assert (put.trace_id.hex(), put.parent_span_id.hex()) == (TRACE, PARENT)
    assert get.trace_id.hex() != TRACE
    assert 0 < put.end_time_unix_nano - put.start_time_unix_nano < 30e9
    assert attributes == {
        "http.request.method": "PUT",
        "http.route": "/api/fungible/{sku}",
        "http.response.status_code": 200,
        "stockledger.request_id": "r1",
        "stockledger.actor": "anonymous",
        "stockledger.command": "PutFungible",
        "stockledger.position": 1,
    }
    assert b"secret" not in b"".join(request.SerializeToString() for request in collector.received)
    names = {each.value.string_value for r in resources for each in r.resource.attributes if each.key == "service.name"}
    assert names == {"shop"}


def test_nothing_of_it_is_loaded_when_it_is_off():
    program = "import api.commands.serve, sys; print([name for name in sys.modules if 'opentelemetry' in name])"

    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
