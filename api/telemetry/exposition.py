"""The numbers in Prometheus' form. The only place that knows its client library."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from api.telemetry.catalogue import METRICS, Metric
from api.telemetry.process import Labels

Values = Mapping[str, Mapping[Labels, Sequence[float]]]


class Exposed(Collector):
    """The metrics of the catalogue, with their numbers by name and labels. One without numbers keeps its help."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            yield _family(metric, self._values.get(metric.name, {}))


def exposed(values: Values, accept: str) -> tuple[bytes, str]:
    """The text, and its media type, of the forms that `accept` (a header) names."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Exposed(values))
    encode, media_type = choose_encoder(accept)
    text: bytes = encode(registry)
    return text, media_type


def _family(metric: Metric, values: Mapping[Labels, Sequence[float]]) -> Family:
    ordered = sorted(values.items())
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, numbers in ordered:
            histogram.add_metric(labels, _buckets(metric.bounds, numbers), numbers[-1])
        return histogram
    plain = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = plain(metric.name, metric.help, labels=metric.labels)
    for labels, numbers in ordered:
        family.add_metric(labels, numbers[0])
    return family


def _buckets(bounds: Iterable[float], numbers: Sequence[float]) -> list[tuple[str, float]]:
    """(upper bound, how many values are at most that)."""
    names = [*(str(float(bound)) for bound in bounds), "+Inf"]
    return list(zip(names, accumulate(numbers[:-1]), strict=True))
