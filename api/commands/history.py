"""`stockledger history`: the statement of a product or an item in the terminal, with a small chart of it."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime

import msgspec

from api.commands import chart
from api.database import database_as_it_is
from api.http import point_in_time
from api.resources import history
from api.settings import Settings
from ledger.errors import LedgerError
from ledger.identifiers import identifier
from ledger.store.connection import BoundedConnection, connect
from ledger.store.entry_lines import StoredEntry
from ledger.store.log import to_entry
from ledger.store.point_in_time import head, position_before, statement
from projections import running_balance

DEFAULT_LIMIT = 20
MAX_LIMIT = 10_000
MAX_TEXT_CHARACTERS = 30
_HEADINGS = ("position", "time (UTC)", "event", "quantity", "on hand", "reserved", "available")
_HEADINGS_OF_TEXTS = ("actor", "reason", "reference")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sku", metavar="SKU", type=_identifier)
    parser.add_argument("sn", metavar="SN", nargs="?", type=_identifier, help="serial number, for one item")
    parser.add_argument(
        "--limit", type=_limit, default=DEFAULT_LIMIT, help=f"at most so many entries, the last ones ({DEFAULT_LIMIT})"
    )
    parser.add_argument("--from", dest="begin", metavar="TIME", type=_time, help="recorded then or later (RFC 3339)")
    parser.add_argument("--to", dest="end", metavar="TIME", type=_time, help="recorded before then (RFC 3339)")
    parser.add_argument("--json", action="store_true", help="as GET .../history answers it, on one line")


def run(settings: Settings, chosen: argparse.Namespace) -> int:
    with database_as_it_is(settings) as url, connect(url, settings.schema, "stockledger history") as conn:
        try:
            position, entries = _read(conn, chosen)
        except LedgerError as error:
            print(f"stockledger: {error}", file=sys.stderr)
            return 1
        if chosen.json:
            page = {"items": [history.flat(entry) for entry in entries], "position": position}
            print(msgspec.json.encode(page).decode())
        else:
            _show(running_balance.running(conn, chosen.sku, chosen.sn, [to_entry(entry) for entry in entries]))
    return 0


def _read(conn: BoundedConnection, chosen: argparse.Namespace) -> tuple[int, list[StoredEntry]]:
    """The log's head, and the last entries asked for in the order of the log; raises LedgerError."""
    history.require(conn, chosen.sku, chosen.sn)
    position = upto = head(conn)
    after = position_before(conn, chosen.begin) if chosen.begin else 0
    if chosen.end:
        upto = min(upto, position_before(conn, chosen.end))
    found = statement(conn, history.streams(chosen.sku, chosen.sn), after, upto, chosen.limit, backward=True)
    return position, found.entries[::-1]


def _show(lines: Sequence[running_balance.Line]) -> None:
    if not lines:
        print("nothing in that time")
        return
    rows = [_row(line) for line in lines]
    table = [(*_HEADINGS, *_HEADINGS_OF_TEXTS), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    numbers = {_HEADINGS.index(name) for name in ("position", "quantity", "on hand", "reserved", "available")}
    for row in table:
        cells = (
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())
    points = [chart.Point(line.entry.recorded_at, line.on_hand, line.reserved) for line in lines]
    print("", *chart.draw(points, shutil.get_terminal_size().columns), sep="\n")


def _row(line: running_balance.Line) -> tuple[str, ...]:
    entry, event = line.entry, line.entry.event
    return (
        str(entry.position),
        f"{entry.recorded_at:%Y-%m-%d %H:%M:%S.%f}"[:-3],
        type(event).__name__,
        "" if line.quantity is None else str(line.quantity),
        str(line.on_hand),
        str(line.reserved),
        str(line.on_hand - line.reserved),
        *(_plain(text) for text in (event.actor, event.reason, event.reference)),
    )


def _plain(text: str | None) -> str:
    """A caller's text for the terminal: cut, and without anything that would steer it."""
    shown = "".join(character if character.isprintable() else "·" for character in text or "")
    return shown if len(shown) <= MAX_TEXT_CHARACTERS else shown[: MAX_TEXT_CHARACTERS - 1] + "…"


def _identifier(text: str) -> str:
    try:
        return identifier(text, "it")
    except LedgerError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_LIMIT:
        raise argparse.ArgumentTypeError(f"must be from 1 to {MAX_LIMIT}")
    return int(text)


def _time(text: str) -> datetime:
    moment = point_in_time.time_of(text)
    if moment is None:
        raise argparse.ArgumentTypeError(f"must be {point_in_time.TIME_FORM}")
    return moment
