"""The command line: its commands, their flags, and what becomes of errors."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import psycopg

from api.commands import (
    expire,
    export,
    follow,
    history,
    import_files,
    keys,
    migrate,
    rebuild,
    report,
    serve,
    status,
    verify,
)
from api.settings import SETTINGS, SettingError, Settings, read_settings
from api.telemetry import logs
from ledger.export.manifest import ExportError
from ledger.store.embedded.server import EmbeddedPostgresError
from ledger.store.keys import KeyRefusedError
from ledger.store.migrate import MigrationError

logger = logging.getLogger(__name__)

# As sysexits.h has it for an internal software error.
DEFECT_STATUS = 70


class Command(NamedTuple):
    """`uses` names the settings that the command heeds, without their prefix; each is a flag of it."""

    name: str
    run: Callable[[Settings, argparse.Namespace], int]
    summary: str
    uses: tuple[str, ...]
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda _: None


ACCESS = (
    "AUTH",
    "RATE_LIMIT",
    "RATE_BURST",
    "CORS_ORIGINS",
    "JWT_ISSUER",
    "JWT_AUDIENCE",
    "JWT_KEYS",
    "JWT_SCOPE_CLAIM",
)
LOG = ("LOG", "LOG_LEVEL")
DATABASE = ("DATABASE_URL", "DATA_DIR", "SCHEMA", *LOG)
READY = ("EXPIRY_LAG_LIMIT", "FOLLOWER_LAG_LIMIT")
WATCHED = ("ACCESS_LOG", "SLOW_MS", "TRACES")
SERVED = ("HOST", "PORT", "WORKERS", "THREADS", "RESERVATION_TTL", "IDEMPOTENCY_DAYS")
COMMANDS = (
    Command(
        "serve",
        serve.run,
        "run the whole service",
        (*SERVED, *ACCESS, *READY, *WATCHED, *DATABASE),
    ),
    Command("expire", expire.run, "run the expiry process alone", ("IDEMPOTENCY_DAYS", *DATABASE)),
    Command("follow", follow.run, "keep the read models that reports are made from, alone", DATABASE),
    Command(
        "migrate", migrate.run, "bring the schema of DATABASE_URL up to date, and end", ("DATABASE_URL", "SCHEMA", *LOG)
    ),
    Command("keys", keys.run, "make, list and revoke the keys of the HTTP API", DATABASE, keys.add_arguments),
    Command(
        "report",
        report.run,
        "write a report as CSV, JSON or Parquet",
        DATABASE,
        report.add_arguments,
    ),
    Command(
        "rebuild",
        rebuild.run,
        "make read models anew from the log, and compare, while the service runs",
        DATABASE,
        rebuild.add_arguments,
    ),
    Command(
        "import",
        import_files.run,
        "record products or movements from CSV or NDJSON files, each row once",
        ("RESERVATION_TTL", *DATABASE),
        import_files.add_arguments,
    ),
    Command(
        "history", history.run, "show every fact of a product or an item, with a chart", DATABASE, history.add_arguments
    ),
    Command("status", status.run, "show positions, lags, reservations and sizes", DATABASE, status.add_arguments),
    Command(
        "export",
        export.run,
        "write the log, or a range of it, to files with a manifest",
        DATABASE,
        export.add_arguments,
    ),
    Command(
        "verify",
        verify.run,
        "replay the whole log through the rules and compare every read model, or check an export",
        DATABASE,
        verify.add_arguments,
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `stockledger`; returns the exit status: 0, 1 when something failed, 2 for a bad setting, 70 for a defect."""
    parsed = _parser().parse_args(arguments)
    try:
        command: Command = parsed.command
        settings = read_settings({s.name: getattr(parsed, s.name, None) for s in SETTINGS}, os.environ)
        logs.configure(settings.log, settings.log_level)
        return command.run(settings, parsed)
    except SettingError as error:
        print(f"stockledger: {error}", file=sys.stderr)
        return 2
    except (EmbeddedPostgresError, ExportError, KeyRefusedError, MigrationError) as error:
        print(f"stockledger: {error}", file=sys.stderr)
    except psycopg.OperationalError as error:
        print(f"stockledger: the database cannot be used: {str(error).strip().splitlines()[0]}", file=sys.stderr)
    except Exception as error:
        return _tell_defect(parsed.command.name, error)
    return 1


def _tell_defect(command: str, error: Exception) -> int:
    """What nobody foresaw: one line for whoever typed the command, the traceback for whoever mends it."""
    logger.exception("%s met a defect", command)
    print(
        f"stockledger: {command} met a defect of its own ({type(error).__name__}): the log above has it in full; what"
        " was committed stays, and the same command may be run again. Please report it with that log.",
        file=sys.stderr,
    )
    return DEFECT_STATUS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stockledger",
        description="An event-sourced inventory ledger with reservations.",
        epilog="Settings, by environment or by a command's flags, of which the flag wins: "
        + ", ".join(f"{setting.name} ({setting.flag})" for setting in SETTINGS)
        + ". Exit status: 0 done, 1 it failed or something is off, 2 a bad setting or argument, 70 a defect.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        summary = f"{command.summary[0].upper()}{command.summary[1:]}."
        sub = commands.add_parser(command.name, help=command.summary, description=summary)
        sub.set_defaults(command=command)
        command.add_arguments(sub)
        group = sub.add_argument_group("settings")
        for setting in SETTINGS:
            if setting.name.removeprefix("STOCKLEDGER_") in command.uses:
                default = f" (default {setting.default})" if setting.default else ""
                text = f"{setting.help}{default} [{setting.name}]".replace("%", "%%")
                group.add_argument(setting.flag, dest=setting.name, metavar="VALUE", help=text)
    return parser


if __name__ == "__main__":
    sys.exit(main())
