"""/health: `live` when the process can answer, `ready` when the ledger works and its processes keep up."""

from typing import Any

import falcon
import msgspec

from api import problems
from api.access import may
from api.condition import Condition, Watch
from api.service import Service
from projections.following import Lag

# Callers of a command have long given up by then.
COMMITTER_STUCK_SECONDS = 5.0


class Live:
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.data = msgspec.json.encode({"status": "live"})


class Ready:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._watch = Watch(service.reader)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        condition = self._watch.now()
        checks = self._checks(condition)
        told: dict[str, Any] = {"checks": checks}
        if may(req, "read"):
            told |= self._details(condition)
        if all(checks.values()):
            resp.data = msgspec.json.encode({"status": "ready"} | told)
            return
        failed = ", ".join(name for name, passed in checks.items() if not passed)
        resp.set_header("Retry-After", "1")
        status, problem = problems.other("not-ready", f"Not as it should be: {failed}.")
        problems.write(resp, status, problem | told)

    def _checks(self, condition: Condition) -> dict[str, bool]:
        """By name, whether it is as it should be. What only the database knows is not, while it cannot be asked."""
        service, expiry, ledger = self._service, condition.expiry, self._service.ledger
        return {
            "database": condition.database,
            "migrated": condition.migrated,
            "committer": ledger.is_alive() and ledger.figures.working_seconds() < COMMITTER_STUCK_SECONDS,
            "expiry": expiry is not None and expiry.seconds <= service.expiry_lag_limit_seconds,
            "following": condition.migrated
            and all(lag.seconds <= service.follower_lag_limit_seconds for lag in condition.following),
        }

    def _details(self, condition: Condition) -> dict[str, Any]:
        ledger, expiry = self._service.ledger, condition.expiry
        in_use, idle, waiting = self._service.reader.use()
        return {
            "expiry": expiry and {"overdue": expiry.overdue, "lag_seconds": round(max(0.0, expiry.seconds), 3)},
            "following": {lag.name: _shown(lag) for lag in condition.following},
            "commands": {"waiting": ledger.waiting, "working_seconds": round(ledger.figures.working_seconds(), 3)},
            "readers": {"in_use": in_use, "idle": idle, "waiting": waiting},
        }


def _shown(lag: Lag) -> dict[str, int | float | None]:
    return {
        "position": lag.position,
        "lag_events": lag.events,
        "lag_seconds": round(lag.seconds, 3),
        "failed_position": lag.failed_position,
    }
