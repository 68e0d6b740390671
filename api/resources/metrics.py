"""/metrics: the numbers of all processes, from their common board, with what the database says of itself."""

from importlib import metadata

import falcon

from api.http.service import Service
from api.telemetry import catalogue, exposition
from api.telemetry.health_snapshot import HealthSnapshot, Watch
from api.telemetry.process import Gauges, everything

VERSION = metadata.version("stockledger")


class Metrics:
    def __init__(self, service: Service) -> None:
        self._telemetry = service.telemetry
        self._watch = Watch(service.reader)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        snapshot = self._watch.now()
        self._telemetry.publish()
        counts, gauges = everything(self._telemetry.shared_memory)
        values = counts | {name: {labels: [v] for labels, v in each.items()} for name, each in gauges.items()}
        for metric, by_labels in _of_database(snapshot).items():
            values[metric.name] = {labels: [value] for labels, value in by_labels.items()}
        resp.data, resp.content_type = exposition.exposed(values, req.get_header("Accept") or "")


def _of_database(snapshot: HealthSnapshot) -> Gauges:
    found: dict[catalogue.Metric, dict[tuple[str, ...], float]] = {
        catalogue.BUILD: {(VERSION,): 1},
        catalogue.DATABASE_UP: {(): float(snapshot.database and snapshot.migrated)},
    }
    if snapshot.expiry is not None:
        found[catalogue.OVERDUE] = {(): snapshot.expiry.overdue}
        found[catalogue.OVERDUE_SECONDS] = {(): max(0.0, snapshot.expiry.seconds)}
    if models := snapshot.following:
        found[catalogue.LOG_POSITION] = {(): models[0].position + models[0].events}
        found[catalogue.MODEL_POSITION] = {(model.name,): model.position for model in models}
        found[catalogue.MODEL_LAG] = {(model.name,): model.events for model in models}
        found[catalogue.MODEL_LAG_SECONDS] = {(model.name,): model.seconds for model in models}
        found[catalogue.MODEL_STOPPED] = {(model.name,): float(model.failed_position is not None) for model in models}
    return found
