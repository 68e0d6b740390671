"""`stockledger serve`: the whole service, and the only place where its parts are wired together."""

import argparse
import gc
import logging
from collections.abc import Callable
from socket import socket

from psycopg.conninfo import conninfo_to_dict

from api.access.access_policy import AccessPolicy
from api.app import create_app, is_light
from api.commands import expire, follow
from api.database import database
from api.http.service import Service
from api.server.server import Server, open_socket, serve_worker
from api.server.supervisor import Child, supervise
from api.settings import SettingError, Settings
from api.telemetry import sources
from api.telemetry.process import Telemetry
from api.telemetry.requests import Requests
from api.telemetry.shared_memory import SharedMemory
from api.telemetry.traces import Spans, is_installed
from ledger.engine.ledger import Ledger
from ledger.rooms import ROOMS
from ledger.store.embedded.server import EmbeddedPostgres
from projections.inline import InlineReadModels
from projections.reader import Reader

# Connections for reading, of each HTTP process.
READER_CONNECTIONS = 8
# Nearly everything that a request makes is gone with it, without a search for cycles.
OBJECTS_BETWEEN_COLLECTIONS = 20_000


def run(settings: Settings, _chosen: argparse.Namespace) -> int:
    """PostgreSQL if it is the embedded one, migrations, HTTP workers, the expiry process and the follower."""
    if settings.traces and not is_installed():
        raise SettingError("STOCKLEDGER_TRACES needs an extra: pip install 'stockledger[otel]'")
    with _listen(settings) as sock:
        access_policy = AccessPolicy(settings, sock)
        with database(settings) as (url, postgres):
            _announce(settings, url, sock, embedded=postgres is not None, access_policy=access_policy)
            return _supervise(settings, url, sock, postgres, access_policy)


def _supervise(
    settings: Settings, url: str, sock: socket, postgres: EmbeddedPostgres | None, access_policy: AccessPolicy
) -> int:
    works: dict[str, Callable[[Telemetry], None]] = {
        f"worker-{number}": lambda telemetry: _work(settings, url, sock, telemetry, access_policy)
        for number in range(1, settings.workers + 1)
    }
    works["expiry"] = lambda telemetry: expire.work(settings, url, telemetry)
    works["follower"] = lambda _: follow.work(settings, url)
    shared_memory = SharedMemory(list(works))

    def child(name: str, work: Callable[[Telemetry], None]) -> Child:
        def run() -> None:
            if postgres is not None:
                postgres.after_fork_in_child()
            telemetry = Telemetry(shared_memory, name)
            sources.log_behind(telemetry)
            with telemetry.publishing():
                work(telemetry)

        return Child(name, run)

    children = [child(name, work) for name, work in works.items()]
    return supervise(children, on_tick=None if postgres is None else lambda: _watch(postgres))


def _watch(postgres: EmbeddedPostgres) -> None:
    if postgres.restart_if_dead():
        logging.getLogger(__name__).warning("the embedded PostgreSQL had died and was started again")


def _work(settings: Settings, url: str, sock: socket, telemetry: Telemetry, access_policy: AccessPolicy) -> None:
    """One HTTP process: its own committer and pool, opened after the fork."""
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


def _listen(settings: Settings) -> socket:
    try:
        return open_socket(settings.host, settings.port)
    except OSError as error:
        raise SettingError(
            f"STOCKLEDGER_HOST and STOCKLEDGER_PORT cannot be used: {settings.host}:{settings.port}: {error.strerror}"
        ) from None


def _announce(settings: Settings, url: str, sock: socket, *, embedded: bool, access_policy: AccessPolicy) -> None:
    """Say where it listens, which database it uses (never a password), where the data is and who may call."""
    host, port = sock.getsockname()[:2]
    parts = conninfo_to_dict(url)
    server = "embedded" if embedded else f"{parts.get('host') or 'local socket'}:{parts.get('port') or 5432}"
    print(f"listening on    http://{f'[{host}]' if ':' in host else host}:{port}")
    print(f"database        {server}, database {parts.get('dbname')}, schema {settings.schema}")
    print(f"data            {settings.data_dir if embedded else 'kept by that database'}")
    print(f"workers         {settings.workers} of {settings.threads} threads")
    print(f"authentication  {access_policy}", flush=True)
