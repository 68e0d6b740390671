"""The rows that the log makes of each inline read model, as a replay comes to know them for good."""

from typing import Any
from uuid import UUID

from msgspec import Struct

from ledger.audit.holds import Hold, Moment
from ledger.audit.replay import Replay
from ledger.events import ItemPurchased, StockPurchased
from ledger.streams import parse_stream
from projections.comparing.rows import json_text, to_row
from projections.comparing.spool import Spool
from projections.comparing.tables import (
    FULFILMENT_REQUESTS,
    ITEMS,
    LINES,
    PRODUCTS,
    RESERVATIONS,
    STOCK_LEVELS,
    Table,
)

# A return of goods whose reservation is over, to be judged beside its rows.
RETURN = b"R"


class Return(Struct, frozen=True):
    """`position`, `stream` and `version` are of the event."""

    position: int
    version: int
    quantity: int
    stream: str

    @property
    def key(self) -> tuple[str, str]:
        """SKU and serial number, as a line has them."""
        _, sku, sn = parse_stream(self.stream)
        return sku, sn


class ExpectedRows:
    """Implements `ledger.audit.holds.Witness`; `end` hands over the rest."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._purchase: dict[str, Any] | None = None

    def is_over(self, hold: Hold) -> None:
        text = str(hold.reservation_id)
        key = text.encode()
        members = (
            text,
            hold.position,
            hold.state,
            hold.owner,
            hold.reference,
            hold.created_at,
            hold.expires_at,
            hold.ended_at,
            hold.fingerprint,
            hold.remaining,
        )
        self._spool.add("log", RESERVATIONS.tag, key, to_row(members))
        for number, (stream, line) in enumerate(hold.lines.items()):
            _, sku, sn = parse_stream(stream)
            units = (line.quantity, line.released, line.purchased, line.returned, line.remaining)
            row = to_row((text, number, hold.position, sku, sn, *units, hold.expires_at))
            self._spool.add("log", LINES.tag, key, row)

    def purchased(self, entry: Moment, event: StockPurchased | ItemPurchased, hold: Hold | None) -> None:
        """The lines of one purchase follow each other."""
        if self._purchase is None or self._purchase["purchase_id"] != event.purchase_id:
            self._save_purchase()
            self._purchase = {
                "purchase_id": event.purchase_id,
                "position": entry.position,
                "requested_at": entry.recorded_at,
                "reservation_id": event.reservation_id,
                "owner": hold.owner if hold else None,
                "reference": event.reference or (hold.reference if hold else None),
                "lines": [],
            }
        _, sku, sn = parse_stream(entry.stream)
        line = {"sku": sku, "quantity": event.quantity} if isinstance(event, StockPurchased) else {"sku": sku, "sn": sn}
        self._purchase["lines"].append(line)

    def returned(self, entry: Moment, reservation_id: UUID, quantity: int) -> None:
        key = str(reservation_id).encode()
        row = b"%s\t%d\t%d\t%d\t%s" % (key, entry.position, entry.version, quantity, entry.stream.encode())
        self._spool.add("log", RETURN, key, row)

    def end(self, replay: Replay) -> None:
        """Hand over what the replay holds at its end."""
        replay.end()
        self._save_purchase()
        for product in (track.product for track in replay.products()):
            if product is not None:
                self._add(PRODUCTS, product)
        for stock in replay.stock():
            if stock.updated_at is not None:
                self._add(STOCK_LEVELS, stock)
        for item in (track.item for track in replay.items()):
            if item is not None:
                self._add(ITEMS, item)
        self._spool.flush()

    def _save_purchase(self) -> None:
        if self._purchase is not None:
            purchase = {**self._purchase, "lines": json_text(self._purchase["lines"])}
            self.put(FULFILMENT_REQUESTS, to_row(purchase[name] for name in FULFILMENT_REQUESTS.columns))
            self._purchase = None

    def _add(self, table: Table, state: object) -> None:
        self.put(table, to_row([getattr(state, name) for name in table.columns]))

    def put(self, table: Table, row: bytes) -> None:
        """A row that will not change any more."""
        self._spool.add("log", table.tag, table.spread_of(row), row)


def to_return(row: bytes) -> tuple[bytes, Return]:
    """The reservation's id and what came back."""
    key, position, version, quantity, stream = row.split(b"\t", 4)
    return key, Return(int(position), int(version), int(quantity), stream.decode())
