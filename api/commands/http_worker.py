"""One HTTP process of the service: its own committer and pool, opened after the fork."""

import gc
from socket import socket

from api.access.access_policy import AccessPolicy
from api.app import create_app, is_light
from api.http.service import Service
from api.server.server import Server, serve_worker
from api.settings import Settings
from api.telemetry import sources
from api.telemetry.process import Telemetry
from api.telemetry.requests import Requests
from api.telemetry.traces import Spans
from ledger.engine.ledger import Ledger
from ledger.rooms import ROOMS
from projections.inline import InlineReadModels
from projections.reader import Reader

# Connections for reading, of each HTTP process.
READER_CONNECTIONS = 8
# Nearly everything that a request makes is gone with it, without a search for cycles.
OBJECTS_BETWEEN_COLLECTIONS = 20_000


def work(settings: Settings, url: str, sock: socket, telemetry: Telemetry, access_policy: AccessPolicy) -> None:
    """Answer requests until SIGTERM."""
    # What there is now stays: it needs no looking through for garbage, and its pages can be shared.
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    ledger = Ledger(url, settings.schema, ROOMS, InlineReadModels())
    reader = Reader(url, settings.schema, max_connections=min(READER_CONNECTIONS, settings.threads))
    known = access_policy.known(url)
    service = Service(
        ledger,
        reader,
        settings.reservation_ttl_seconds,
        settings.expiry_lag_limit_seconds,
        settings.follower_lag_limit_seconds,
        telemetry,
    )
    spans = Spans() if settings.traces else None
    watched = Requests(telemetry, slow_seconds=settings.slow_ms / 1000, log_all=settings.access_log, spans=spans)
    sources.observe_ledger(telemetry, ledger)
    sources.observe_reader(telemetry, reader)

    def on_start(server: Server) -> None:
        server.refused = watched.refused
        sources.observe_server(telemetry, server)

    try:
        serve_worker(
            create_app(service, known, watched, access_policy.browsers()),
            sock,
            threads=settings.threads,
            runs_inline=is_light,
            on_start=on_start,
            on_drain=reader.head_watcher.stop,
        )
    finally:
        if spans is not None:
            spans.close()
        if known is not None:
            known.close()
        ledger.close()
        reader.close()
