"""Read model `fulfilment_requests`: what was purchased, in order, for the fulfilment service to follow."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from ledger.facts import Entry
from ledger.items.events import ItemPurchased
from ledger.reservations.reservations import RESERVATIONS, Reservation
from ledger.state import Keys
from ledger.stock.events import StockPurchased
from ledger.store.connection import BoundedConnection, Connection
from ledger.store.roundtrip import RoundTrip, ask_one
from ledger.streams import parse_stream
from ledger.unit_of_work import UnitOfWork
from projections.model import Fill, InlineModel
from projections.rows import HEAD, as_json, copy_in

COLUMNS = "purchase_id, position, requested_at, reservation_id, owner, reference, lines"

# Rows that are being put together, by purchase.
Requests = dict[UUID, dict[str, Any]]

_SAVE = f"""
INSERT INTO fulfilment_requests ({COLUMNS})
SELECT {COLUMNS} FROM json_to_recordset($1) AS new (
    purchase_id uuid, position bigint, requested_at timestamptz, reservation_id uuid, owner text, reference text,
    lines jsonb
)
"""
_PAGE = f"""
SELECT head.position, f.*
FROM {HEAD} AS head
LEFT JOIN (
    SELECT {COLUMNS} FROM fulfilment_requests WHERE position > $1 ORDER BY position LIMIT $2
) AS f ON true
ORDER BY f.position
"""


class FulfilmentRequest(Struct, frozen=True, kw_only=True):
    """`position` is that of the purchase's first event in the log; `reference` the purchase's, else the cart's."""

    id: UUID
    position: int
    requested_at: datetime
    reservation_id: UUID | None
    owner: str | None
    reference: str | None
    lines: list[dict[str, Any]]


def save(trip: RoundTrip, work: UnitOfWork, entries: Iterable[Entry]) -> None:
    """Queue one row for each purchase among the entries."""
    requests: Requests = {}
    for entry in entries:
        event = entry.event
        if isinstance(event, StockPurchased | ItemPurchased):
            cart = work[RESERVATIONS][event.reservation_id] if event.reservation_id is not None else None
            collect(requests, entry, event, cart)
    if requests:
        trip.ask(_SAVE, as_json(list(requests.values())))


def collect(
    requests: Requests, entry: Entry, event: StockPurchased | ItemPurchased, reservation: Reservation | None
) -> None:
    """Add what an entry says was purchased, of a reservation if of any, to the rows in `requests`."""
    request = requests.get(event.purchase_id)
    if request is None:
        request = requests[event.purchase_id] = _head(entry, event, reservation)
    request["lines"].append(_line(entry, event))


def bulk(conn: Connection, requests: Iterable[dict[str, Any]]) -> None:
    """Add rows, of purchases that the table does not hold."""
    rows = (tuple({**r, "lines": as_json(r["lines"])}.values()) for r in requests)
    copy_in(conn, "fulfilment_requests", COLUMNS, rows)


def page(conn: BoundedConnection, after: int, limit: int) -> tuple[int, list[FulfilmentRequest]]:
    """The log position, and the purchases after position `after`, in order."""
    found = ask_one(conn, _PAGE, after, limit)
    names = ("id", *COLUMNS.split(", ")[1:])
    return found[0][0], [
        FulfilmentRequest(**dict(zip(names, row[1:], strict=True))) for row in found if row[1] is not None
    ]


def _head(entry: Entry, event: StockPurchased | ItemPurchased, reservation: Reservation | None) -> dict[str, Any]:
    return {
        "purchase_id": event.purchase_id,
        "position": entry.position,
        "requested_at": entry.recorded_at,
        "reservation_id": event.reservation_id,
        "owner": reservation.owner if reservation else None,
        "reference": event.reference or (reservation.reference if reservation else None),
        "lines": [],
    }


def _line(entry: Entry, event: StockPurchased | ItemPurchased) -> dict[str, Any]:
    _, sku, sn = parse_stream(entry.stream)
    return {"sku": sku, "quantity": event.quantity} if isinstance(event, StockPurchased) else {"sku": sku, "sn": sn}


class _Model:
    """Rows are made of the purchases among the entries; nothing is decided by them."""

    name = "fulfilment_requests"
    tables: tuple[str, ...] = ("fulfilment_requests",)

    def ask(self, _trip: RoundTrip, _needs: Keys) -> Sequence[Fill]:
        return ()

    def save(self, trip: RoundTrip, work: UnitOfWork, _changed: Keys, entries: Sequence[Entry]) -> None:
        save(trip, work, entries)


MODEL: InlineModel = _Model()
