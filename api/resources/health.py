"""/health: `live` when the process can answer, `ready` when the ledger works and its processes keep up."""

from typing import Literal

import falcon
import msgspec
from msgspec import Struct

from api.access.scopes import may
from api.http import problems
from api.http.service import Service
from api.telemetry.health_snapshot import HealthSnapshot, Watch
from ledger.engine.ledger import Ledger

# Callers of a command have long given up by then.
COMMITTER_STUCK_SECONDS = 5.0


class Expiry(Struct, frozen=True):
    overdue: int
    lag_seconds: float


class Following(Struct, frozen=True):
    """How far behind a read model is, and the event that it cannot apply, if one stops it."""

    position: int
    lag_events: int
    lag_seconds: float
    failed_position: int | None


class Commands(Struct, frozen=True):
    """In the process that answers: how many wait, and how long the transaction at work has been at it."""

    waiting: int
    working_seconds: float


class Readers(Struct, frozen=True):
    """Its connections for reading, and how many requests wait for one."""

    in_use: int
    idle: int
    waiting: int


class Details(Struct, frozen=True):
    """Null to those who may not read. `expiry` is null while the database cannot say."""

    expiry: Expiry | None
    following: dict[str, Following]
    commands: Commands
    readers: Readers


class Readiness(Struct, frozen=True):
    status: Literal["ready"]
    checks: dict[str, bool]
    details: Details | None


class Live:
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.data = msgspec.json.encode({"status": "live"})


def _is_well(ledger: Ledger) -> bool:
    """Whether the committer of this process works, is not stuck, and its transactions do not all meet a defect."""
    counters = ledger.counters
    return ledger.is_alive() and counters.working_seconds() < COMMITTER_STUCK_SECONDS and not counters.is_defective()


class Ready:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._watch = Watch(service.reader)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        snapshot = self._watch.now()
        checks = self._checks(snapshot)
        details = self._details(snapshot) if may(req, "admin", "read") else None
        if all(checks.values()):
            resp.data = msgspec.json.encode(Readiness("ready", checks, details))
            return
        failed = ", ".join(name for name, passed in checks.items() if not passed)
        status, problem = problems.other("not-ready", f"Not as it should be: {failed}.")
        resp.set_header("Retry-After", "1")
        problems.write(resp, status, problem | {"checks": checks, "details": details})

    def _checks(self, snapshot: HealthSnapshot) -> dict[str, bool]:
        """By name, whether it is as it should be. What only the database knows is not, while it cannot be asked."""
        service, expiry, ledger = self._service, snapshot.expiry, self._service.ledger
        return {
            "database": snapshot.database,
            "migrated": snapshot.migrated,
            "committer": _is_well(ledger),
            "expiry": expiry is not None and expiry.seconds <= service.expiry_lag_limit_seconds,
            "following": snapshot.migrated
            and all(lag.seconds <= service.follower_lag_limit_seconds for lag in snapshot.following),
        }

    def _details(self, snapshot: HealthSnapshot) -> Details:
        ledger, expiry = self._service.ledger, snapshot.expiry
        return Details(
            expiry=None if expiry is None else Expiry(expiry.overdue, round(max(0.0, expiry.seconds), 3)),
            following={
                lag.name: Following(lag.position, lag.events, round(lag.seconds, 3), lag.failed_position)
                for lag in snapshot.following
            },
            commands=Commands(ledger.waiting, round(ledger.counters.working_seconds(), 3)),
            readers=Readers(*self._service.reader.use()),
        )
