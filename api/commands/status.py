"""`stockledger status`: positions, lags, reservations and sizes of a ledger, beside a running service or alone."""

import argparse

import msgspec

from api.database import database_as_it_is
from api.settings import Settings
from ledger.store.connection import connect
from projections.status import ReadModel, Status, Table, status

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON, on one line")


def run(settings: Settings, chosen: argparse.Namespace) -> int:
    with database_as_it_is(settings) as url, connect(url, settings.schema, "stockledger status") as conn:
        found = status(conn)
    if chosen.json:
        print(msgspec.json.encode(found).decode())
    else:
        print(*_lines(settings.schema, found), sep="\n")
    return 0


def _lines(schema: str, found: Status) -> list[str]:
    last = f", recorded {found.recorded_at:%Y-%m-%d %H:%M:%S} UTC" if found.recorded_at else ""
    size = f"{found.bytes_per_event} bytes an event, with its indexes" if found.bytes_per_event else "empty"
    return [
        f"{'ledger':<22}schema {schema}",
        f"{'log':<22}position {found.position:,}{last}",
        f"{'':<22}{size}",
        f"{'':<22}digest {found.digest or 'none'}",
        f"{'reservations':<22}{found.open_reservations:,} open, {found.overdue_reservations:,} overdue",
        f"{'migrations':<22}{len(found.migrations)}, the last {found.migrations[-1].name}",
        "",
        f"{'read model':<22}{'position':>14}{'lag':>14}",
        *(_read_model(model) for model in found.read_models),
        "",
        f"{'table':<22}{'rows, about':>14}{'table':>14}{'indexes':>14}",
        *(_table(table) for table in found.tables),
    ]


def _read_model(model: ReadModel) -> str:
    lag = f"{model.lag_events:,}" if model.lag_events else "none"
    behind = f"  {model.lag_seconds:,.1f} s" if model.lag_events else ""
    stopped = f"  stopped before position {model.failed_position:,}" if model.failed_position else ""
    return f"{model.name:<22}{model.position:>14,}{lag:>14}{behind}{stopped}"


def _table(table: Table) -> str:
    rows = "?" if table.rows is None else f"{table.rows:,}"
    return f"{table.name:<22}{rows:>14}{_size(table.table_bytes):>14}{_size(table.index_bytes):>14}"


def _size(count: float) -> str:
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:,.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} {_UNITS[-1]}"
