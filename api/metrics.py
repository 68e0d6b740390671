"""/metrics: the numbers of all processes, from their common board, with what the database says of itself."""

from importlib import metadata

import falcon

from api.condition import Condition, Watch
from api.service import Service
from api.telemetry import catalogue, exposition
from api.telemetry.process import Gauges, everything

VERSION = metadata.version("stockledger")


class Metrics:
    def __init__(self, service: Service) -> None:
        self._telemetry = service.telemetry
        self._watch = Watch(service.reader)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        condition = self._watch.now()
        self._telemetry.publish()
        counts, gauges = everything(self._telemetry.board)
        values = counts | {name: {labels: [v] for labels, v in each.items()} for name, each in gauges.items()}
        for metric, by_labels in _of_database(condition).items():
            values[metric.name] = {labels: [value] for labels, value in by_labels.items()}
        resp.data, resp.content_type = exposition.exposed(values, req.get_header("Accept") or "")


def _of_database(condition: Condition) -> Gauges:
    found: dict[catalogue.Metric, dict[tuple[str, ...], float]] = {
        catalogue.BUILD: {(VERSION,): 1},
        catalogue.DATABASE_UP: {(): float(condition.database and condition.migrated)},
    }
    if condition.expiry is not None:
        found[catalogue.OVERDUE] = {(): condition.expiry.overdue}
        found[catalogue.OVERDUE_SECONDS] = {(): max(0.0, condition.expiry.seconds)}
    if models := condition.following:
        found[catalogue.LOG_POSITION] = {(): models[0].position + models[0].events}
        found[catalogue.MODEL_POSITION] = {(model.name,): model.position for model in models}
        found[catalogue.MODEL_LAG] = {(model.name,): model.events for model in models}
        found[catalogue.MODEL_LAG_SECONDS] = {(model.name,): model.seconds for model in models}
        found[catalogue.MODEL_STOPPED] = {(model.name,): float(model.failed_position is not None) for model in models}
    return found
