"""OpenTelemetry: a span for each request. Optional; without it nothing here is paid for, nor even imported.

Where spans go is said by OpenTelemetry's own variables, OTEL_EXPORTER_OTLP_ENDPOINT and the like.
"""

import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import falcon

_ATTRIBUTES = {
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
    "problem": "error.type",
    "request_id": "stockledger.request_id",
    "actor": "stockledger.actor",
    "command": "stockledger.command",
    "position": "stockledger.position",
}


class Spans:
    """Make it after the fork: it sends from a thread of its own."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over a name of ours.
        self._provider = TracerProvider(resource=Resource({SERVICE_NAME: "stockledger"}).merge(Resource.create()))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("stockledger")
        self._propagator = TraceContextTextMapPropagator()
        self._kind = SpanKind.SERVER
        self._failed = Status(StatusCode.ERROR)

    def answered(self, req: falcon.Request, seconds: float, facts: Mapping[str, Any]) -> None:
        """A request's span, made when it is over: its caller's is its parent if there is a `traceparent`."""
        end = time.time_ns()
        headers = {name: value for name in ("traceparent", "tracestate") if (value := req.get_header(name)) is not None}
        span = self._tracer.start_span(
            f"{facts['method']} {facts['route']}",
            context=self._propagator.extract(headers),
            kind=self._kind,
            attributes={_ATTRIBUTES[name]: value for name, value in facts.items() if name in _ATTRIBUTES},
            start_time=end - int(seconds * 1e9),
        )
        if facts["status"] >= 500:
            span.set_status(self._failed)
        span.end(end)

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


def is_installed() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http.trace_exporter") is not None
    except ModuleNotFoundError:
        return False
