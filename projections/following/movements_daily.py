"""Read model `movements_daily`, which follows the log: how many units moved, by UTC day and SKU, and by which cause."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date

from ledger.facts import Entry, Event
from ledger.items.events import ItemAdded, ItemPurchased, ItemReleased, ItemReserved, ItemReturned
from ledger.stock.events import StockAdded, StockPurchased, StockReleased, StockRemoved, StockReserved, StockReturned
from ledger.store.connection import BoundedConnection
from ledger.store.roundtrip import ask_one
from ledger.streams import parse_stream
from projections.rows import as_json

TABLES = ("movements_daily",)

KINDS = ("added", "removed", "reserved", "released", "expired", "purchased", "returned")
COUNTED = (*KINDS, "events")
# Sums stop here, as the smallest and largest numbers of a bigint are all that the table can hold. Such days need
# quantities that no shop has, but a caller may ask for them, and that must not stop everybody's reports.
MOST = 2**63 - 1

_KIND: dict[type[Event], str] = {
    StockAdded: "added",
    StockRemoved: "removed",
    StockReserved: "reserved",
    StockReleased: "released",
    StockPurchased: "purchased",
    StockReturned: "returned",
    ItemAdded: "added",
    ItemReserved: "reserved",
    ItemReleased: "released",
    ItemPurchased: "purchased",
    ItemReturned: "returned",
}
_SUMS = ", ".join(
    f"{column} = least(movements_daily.{column}::numeric + excluded.{column}, {MOST})" for column in COUNTED
)
_SAVE = f"""
INSERT INTO movements_daily (day, sku, {", ".join(COUNTED)})
SELECT day, sku, {", ".join(COUNTED)} FROM json_to_recordset($1) AS new (
    day date, sku text, {", ".join(f"{column} bigint" for column in COUNTED)}
)
ON CONFLICT (day, sku) DO UPDATE SET {_SUMS}
"""


def apply(conn: BoundedConnection, entries: Sequence[Entry]) -> None:
    """Add what moved in `entries`; the caller's transaction sees to it that each entry is added once."""
    days: dict[tuple[date, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(COUNTED, 0))
    for entry in entries:
        event = entry.event
        row = days[entry.recorded_at.date(), parse_stream(entry.stream)[1]]
        row["events"] += 1
        kind = _KIND.get(type(event))
        if kind is not None:
            if kind == "released" and getattr(event, "cause", None) == "expired":
                kind = "expired"
            row[kind] += getattr(event, "quantity", 1)  # an item is one unit
    # In order of the key, as everybody who locks many rows does.
    rows = [{"day": day, "sku": sku, **_within(row)} for (day, sku), row in sorted(days.items())]
    ask_one(conn, _SAVE, as_json(rows))


def _within(row: dict[str, int]) -> dict[str, int]:
    return {column: min(count, MOST) for column, count in row.items()}
