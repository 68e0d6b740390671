"""The processes of `stockledger serve`, each declared once. Every one but the HTTP workers also runs alone.

A process works until SIGTERM. It is restarted when it ends, publishes its numbers under its name, and may run on as
many hosts as one likes: of those of which only one may be at work, one leads (`projections.following.leadership`).
"""

from collections.abc import Callable
from socket import socket

from msgspec import Struct

from api.access.access_policy import AccessPolicy
from api.commands import expire, follow, http_worker
from api.settings import Settings
from api.telemetry.process import Telemetry


class Context(Struct, frozen=True):
    """What there is to work with: made before the fork, so connections are not among it."""

    settings: Settings
    url: str
    sock: socket
    access_policy: AccessPolicy


class Process(Struct, frozen=True):
    """`work` returns when it is asked to stop; `count` says how many of it run side by side."""

    name: str
    work: Callable[[Context, Telemetry], None]
    count: Callable[[Settings], int] | None = None

    def names(self, settings: Settings) -> list[str]:
        """`worker-1`, `worker-2`, ... where there may be several."""
        if self.count is None:
            return [self.name]
        return [f"{self.name}-{number}" for number in range(1, self.count(settings) + 1)]


PROCESSES = (
    Process(
        "worker",
        lambda its, telemetry: http_worker.work(its.settings, its.url, its.sock, telemetry, its.access_policy),
        count=lambda settings: settings.workers,
    ),
    Process("expiry", lambda its, telemetry: expire.work(its.settings, its.url, telemetry)),
    Process("follower", lambda its, _: follow.work(its.settings, its.url)),
)
