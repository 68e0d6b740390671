"""`stockledger serve`: the whole service, and the only place where its parts are wired together."""

import argparse
import logging
from collections.abc import Callable
from socket import socket

from psycopg.conninfo import conninfo_to_dict

from api.access.access_policy import AccessPolicy
from api.database import database
from api.processes import PROCESSES, Context
from api.server.server import open_socket
from api.server.supervisor import Child, supervise
from api.settings import SettingError, Settings
from api.telemetry import sources
from api.telemetry.process import Telemetry
from api.telemetry.shared_memory import SharedMemory
from api.telemetry.traces import is_installed
from ledger.store.embedded.server import EmbeddedPostgres


def run(settings: Settings, _chosen: argparse.Namespace) -> int:
    """PostgreSQL if it is the embedded one, migrations, HTTP workers, the expiry process and the follower."""
    if settings.traces and not is_installed():
        raise SettingError("STOCKLEDGER_TRACES needs an extra: pip install 'stockledger[otel]'")
    with _listen(settings) as sock:
        access_policy = AccessPolicy(settings, sock)
        with database(settings) as (url, postgres):
            _announce(settings, url, sock, embedded=postgres is not None, access_policy=access_policy)
            return _supervise(Context(settings, url, sock, access_policy), postgres)


def _supervise(context: Context, postgres: EmbeddedPostgres | None) -> int:
    works = [(name, process.work) for process in PROCESSES for name in process.names(context.settings)]
    shared_memory = SharedMemory([name for name, _ in works])

    def child(name: str, work: Callable[[Context, Telemetry], None]) -> Child:
        def run() -> None:
            if postgres is not None:
                postgres.after_fork_in_child()
            telemetry = Telemetry(shared_memory, name)
            sources.log_behind(telemetry)
            with telemetry.publishing():
                work(context, telemetry)

        return Child(name, run)

    children = [child(name, work) for name, work in works]
    return supervise(children, on_tick=None if postgres is None else lambda: _watch(postgres))


def _watch(postgres: EmbeddedPostgres) -> None:
    if postgres.restart_if_dead():
        logging.getLogger(__name__).warning("the embedded PostgreSQL had died and was started again")


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
