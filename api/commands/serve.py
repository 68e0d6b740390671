"""`stockledger serve`: the whole service, and the only place where its parts are wired together."""

import argparse
import gc
import logging
from collections.abc import Callable
from socket import socket

from psycopg.conninfo import conninfo_to_dict

from api.app import create_app, is_light
from api.commands import expire, follow
from api.database import database
from api.server import open_socket, serve_worker
from api.service import Service
from api.settings import SettingError, Settings
from api.supervisor import Child, supervise
from ledger.ledger import Ledger
from ledger.store.embedded import EmbeddedPostgres
from projections.inline import InlineReadModels
from projections.reader import Reader

# Connections for reading, of each HTTP process.
READER_CONNECTIONS = 8
# Nearly everything that a request makes is gone with it, without a search for cycles.
OBJECTS_BETWEEN_COLLECTIONS = 20_000


def run(settings: Settings, _chosen: argparse.Namespace) -> int:
    """PostgreSQL if it is the embedded one, migrations, HTTP workers, the expiry process and the follower."""
    sock = _listen(settings)
    with database(settings) as (url, postgres):
        _announce(settings, url, sock, embedded=postgres is not None)
        return _supervise(settings, url, sock, postgres)


def _supervise(settings: Settings, url: str, sock: socket, postgres: EmbeddedPostgres | None) -> int:
    def child(name: str, work: Callable[[], None]) -> Child:
        def run() -> None:
            if postgres is not None:
                postgres.after_fork_in_child()
            work()

        return Child(name, run)

    children = [child(f"worker-{n}", lambda: _work(settings, url, sock)) for n in range(1, settings.workers + 1)]
    children.append(child("expiry", lambda: expire.work(settings, url)))
    children.append(child("follower", lambda: follow.work(settings, url)))
    return supervise(children, on_tick=None if postgres is None else lambda: _watch(postgres))


def _watch(postgres: EmbeddedPostgres) -> None:
    if postgres.restart_if_dead():
        logging.getLogger(__name__).warning("the embedded PostgreSQL had died and was started again")


def _work(settings: Settings, url: str, sock: socket) -> None:
    """One HTTP process: its own committer and pool, opened after the fork."""
    # What there is now stays: it needs no looking through for garbage, and its pages can be shared.
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    ledger = Ledger(url, settings.schema, InlineReadModels())
    reader = Reader(url, settings.schema, max_connections=min(READER_CONNECTIONS, settings.threads))
    app = create_app(Service(ledger, reader, settings.reservation_ttl_seconds))
    try:
        serve_worker(app, sock, threads=settings.threads, carried=is_light, on_drain=reader.arrivals.stop)
    finally:
        ledger.close()
        reader.close()


def _listen(settings: Settings) -> socket:
    try:
        return open_socket(settings.host, settings.port)
    except OSError as error:
        raise SettingError(
            f"STOCKLEDGER_HOST and STOCKLEDGER_PORT cannot be used: {settings.host}:{settings.port}: {error.strerror}"
        ) from None


def _announce(settings: Settings, url: str, sock: socket, *, embedded: bool) -> None:
    """Say where it listens, which database it uses (never a password) and where the data is."""
    host, port = sock.getsockname()[:2]
    parts = conninfo_to_dict(url)
    server = "embedded" if embedded else f"{parts.get('host') or 'local socket'}:{parts.get('port') or 5432}"
    print(f"listening on    http://{f'[{host}]' if ':' in host else host}:{port}")
    print(f"database        {server}, database {parts.get('dbname')}, schema {settings.schema}")
    print(f"data            {settings.data_dir if embedded else 'kept by that database'}")
    print(f"workers         {settings.workers} of {settings.threads} threads", flush=True)
