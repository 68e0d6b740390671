"""/health: `live` when the process can answer, `ready` when the ledger can be read and written."""

import falcon
import msgspec

from api import problems
from api.service import Service
from ledger.errors import LedgerError
from ledger.store import migrate
from projections import following, reservations
from projections.following import Lag


class Live:
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.data = msgspec.json.encode({"status": "live"})


class Ready:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        checks = {"database": False, "migrated": False, "committer": self._service.ledger.is_alive()}
        expiry, behind = None, None
        try:
            checks["migrated"] = self._service.reader.read(migrate.is_current)
            checks["database"] = True
            lag = self._service.reader.read(reservations.lag)
            expiry = {"overdue": lag.overdue, "lag_seconds": round(max(0.0, lag.seconds), 3)}
            behind = {found.name: _shown(found) for found in self._service.reader.read(following.lags)}
        except LedgerError:
            resp.set_header("Retry-After", "1")
        ready = all(checks.values())
        if not ready:
            status, problem = problems.other("not-ready", "The service cannot work yet.")
            problems.write(resp, status, problem | {"checks": checks})
        else:
            resp.data = msgspec.json.encode(
                {"status": "ready", "checks": checks, "expiry": expiry, "following": behind}
            )


def _shown(lag: Lag) -> dict[str, int | float | None]:
    """A model that is stopped keeps nobody from writing and reading, so it does not make the service unready."""
    return {
        "position": lag.position,
        "lag_events": lag.events,
        "lag_seconds": round(lag.seconds, 3),
        "failed_position": lag.failed_position,
    }
