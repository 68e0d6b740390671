"""The command line, and the only place where things are wired together."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from socket import socket

import psycopg
from psycopg.conninfo import conninfo_to_dict

from api import expire, import_run
from api.app import create_app
from api.import_orders import add_arguments, read_orders
from api.server import open_socket, serve_worker
from api.service import Service
from api.settings import SETTINGS, SettingError, Settings, read_settings
from api.supervisor import Child, supervise
from ledger.ledger import Ledger
from ledger.store.embedded import EmbeddedPostgres, EmbeddedPostgresError
from ledger.store.migrate import MigrationError, migrate
from projections.inline import InlineReadModels
from projections.reader import Reader

# Connections for reading, of each HTTP process.
READER_CONNECTIONS = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `stockledger`; returns the exit status: 0, 1 when something failed, 2 for a bad setting."""
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = read_settings({s.name: getattr(parsed, s.name) for s in SETTINGS}, os.environ)
        run: Callable[..., int] = parsed.run
        return run(settings, parsed) if run is import_files else run(settings)
    except SettingError as error:
        print(f"stockledger: {error}", file=sys.stderr)
        return 2
    except (EmbeddedPostgresError, MigrationError) as error:
        print(f"stockledger: {error}", file=sys.stderr)
    except psycopg.OperationalError as error:
        print(f"stockledger: the database cannot be used: {str(error).strip().splitlines()[0]}", file=sys.stderr)
    return 1


def serve(settings: Settings) -> int:
    """The whole service: PostgreSQL if it is the embedded one, migrations, HTTP workers and the expiry process."""
    sock = _listen(settings)
    with _database(settings) as (url, postgres):
        migrate(url, settings.schema)
        _announce(settings, url, sock, embedded=postgres is not None)
        return _supervise(settings, url, sock, postgres)


def expire_only(settings: Settings) -> int:
    """The expiry process alone, beside a service that runs elsewhere; more than one are safe."""
    with _database(settings) as (url, _):
        migrate(url, settings.schema)
        print(f"writing down expired reservations of schema {settings.schema}", flush=True)
        expire.run(settings, url)
    return 0


def import_files(settings: Settings, chosen: argparse.Namespace) -> int:
    """Products and movements from files, beside a service that runs or without one."""
    orders = read_orders(chosen, settings.reservation_ttl_seconds)
    if chosen.dry_run:
        return import_run.dry_run(orders)
    with _database(settings) as (url, _):
        migrate(url, settings.schema)
        return import_run.run(orders, url, settings.schema, again=chosen.again)


@contextmanager
def _database(settings: Settings) -> Iterator[tuple[str, EmbeddedPostgres | None]]:
    """The database to use: its URL, and the embedded PostgreSQL if it is that."""
    if settings.database_url is not None:
        yield settings.database_url, None
        return
    with EmbeddedPostgres.start(settings.data_dir) as postgres:
        yield postgres.url, postgres


def migrate_only(settings: Settings) -> int:
    """Bring the schema up to date, for deployments that do so before they start the service."""
    if settings.database_url is None:
        raise SettingError("DATABASE_URL must be set: the embedded PostgreSQL is migrated by 'stockledger serve'")
    applied = migrate(settings.database_url, settings.schema)
    print("\n".join(applied) or "nothing to do")
    return 0


def _supervise(settings: Settings, url: str, sock: socket, postgres: EmbeddedPostgres | None) -> int:
    def child(name: str, work: Callable[[], None]) -> Child:
        def run() -> None:
            if postgres is not None:
                postgres.after_fork_in_child()
            work()

        return Child(name, run)

    children = [child(f"worker-{n}", lambda: _work(settings, url, sock)) for n in range(1, settings.workers + 1)]
    children.append(child("expiry", lambda: expire.run(settings, url)))
    return supervise(children, on_tick=None if postgres is None else lambda: _watch(postgres))


def _watch(postgres: EmbeddedPostgres) -> None:
    if postgres.restart_if_dead():
        logging.getLogger(__name__).warning("the embedded PostgreSQL had died and was started again")


def _work(settings: Settings, url: str, sock: socket) -> None:
    """One HTTP process: its own committer and pool, opened after the fork."""
    ledger = Ledger(url, settings.schema, InlineReadModels())
    reader = Reader(url, settings.schema, max_connections=min(READER_CONNECTIONS, settings.threads))
    app = create_app(Service(ledger, reader, settings.reservation_ttl_seconds))
    try:
        serve_worker(app, sock, threads=settings.threads)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stockledger",
        description="An event-sourced inventory ledger with reservations.",
        epilog="Settings, by environment or by a command's flags, of which the flag wins: "
        + ", ".join(f"{setting.name} ({setting.flag})" for setting in SETTINGS),
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, run, summary in (
        ("serve", serve, "run the whole service"),
        ("expire", expire_only, "run the expiry process alone"),
        ("migrate", migrate_only, "bring the schema of DATABASE_URL up to date, and end"),
        ("import", import_files, "record products or movements from CSV or NDJSON files, each row once"),
    ):
        command = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
        command.set_defaults(run=run)
        if run is import_files:
            add_arguments(command)
        for setting in SETTINGS:
            default = f" (default {setting.default})" if setting.default else ""
            text = f"{setting.help}{default} [{setting.name}]".replace("%", "%%")
            command.add_argument(setting.flag, dest=setting.name, metavar="VALUE", help=text)
    return parser


if __name__ == "__main__":
    sys.exit(main())
