"""The rows that the log makes of each inline read model, as a replay comes to know them for good."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from ledger.audit.hold_checks import Hold, Moment
from ledger.audit.replay import Replay
from ledger.items.events import ItemPurchased
from ledger.stock.events import StockPurchased
from ledger.streams import parse_stream
from projections.verifying.rows import json_string, text, time_text, to_row
from projections.verifying.spool import Spool
from projections.verifying.tables import FULFILMENT_REQUESTS, ITEMS, LINES, PRODUCTS, RESERVATIONS, STOCK_LEVELS, Table

# A return of goods whose reservation is over, to be judged beside its rows.
RETURN = b"R"
# What an expired reservation became once it was held again, and its lines: to be joined to what it was before.
AGAIN = b"A"
AGAIN_LINES = b"L"


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


class _Purchase(Struct):
    """A row of fulfilment_requests to be; `lines` are texts of JSON."""

    purchase_id: UUID
    position: int
    requested_at: datetime
    reservation_id: UUID | None
    owner: str | None
    reference: str | None
    lines: list[str] = []


class ExpectedRows:
    """Implements `ledger.audit.hold_checks.Witness`; `end` hands over the rest."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._purchase: _Purchase | None = None

    def is_over(self, hold: Hold) -> None:
        """Written out column by column, which takes a third of the time."""
        name, position, expires_at = str(hold.reservation_id), hold.position, time_text(hold.expires_at)
        key = name.encode()
        row = (
            f"{name}\t{position}\t{hold.state}\t{text(hold.owner)}\t{text(hold.reference)}"
            f"\t{time_text(hold.created_at)}\t{expires_at}\t{time_text(hold.ended_at)}"
            f"\t{text(hold.fingerprint)}\t{hold.remaining}"
        )
        self._spool.add("log", AGAIN if hold.again else RESERVATIONS.tag, key, row.encode())
        tag = AGAIN_LINES if hold.again else LINES.tag
        for number, (stream, line) in enumerate(hold.lines.items()):
            _, sku, sn = parse_stream(stream)
            row = (
                f"{name}\t{number}\t{position}\t{text(sku)}\t{text(sn)}\t{line.quantity}\t{line.released}"
                f"\t{line.purchased}\t{line.returned}\t{line.remaining}\t{expires_at}\t{line.expired}"
            )
            self._spool.add("log", tag, key, (f"{row}\t{line.again}" if hold.again else row).encode())

    def purchased(self, entry: Moment, event: StockPurchased | ItemPurchased, hold: Hold | None) -> None:
        """The lines of one purchase follow each other."""
        if self._purchase is None or self._purchase.purchase_id != event.purchase_id:
            self._save_purchase()
            self._purchase = _Purchase(
                event.purchase_id,
                entry.position,
                entry.recorded_at,
                event.reservation_id,
                hold.owner if hold else None,
                event.reference or (hold.reference if hold else None),
            )
        _, sku, sn = parse_stream(entry.stream)
        if isinstance(event, StockPurchased):
            line = f'{{"sku": {json_string(sku)}, "quantity": {event.quantity}}}'
        else:
            line = f'{{"sn": {json_string(sn)}, "sku": {json_string(sku)}}}'  # jsonb has shorter names first
        self._purchase.lines.append(line)

    def returned(self, entry: Moment, reservation_id: UUID, quantity: int) -> None:
        key = str(reservation_id).encode()
        row = b"%s\t%d\t%d\t%d\t%s" % (key, entry.position, entry.version, quantity, entry.stream.encode())
        self._spool.add("log", RETURN, key, row)

    def end(self, replay: Replay) -> None:
        """Hand over what the replay holds at its end."""
        replay.end()
        self._save_purchase()
        for product in (check.product for check in replay.products()):
            if product is not None:
                self._add(PRODUCTS, product)
        for stock in replay.stock():
            if stock.updated_at is not None:
                self._add(STOCK_LEVELS, stock)
        for item in (check.item for check in replay.items()):
            if item is not None:
                self._add(ITEMS, item)
        self._spool.flush()

    def _save_purchase(self) -> None:
        purchase = self._purchase
        if purchase is not None:
            reservation_id = "\\N" if purchase.reservation_id is None else str(purchase.reservation_id)
            lines = f"[{', '.join(purchase.lines)}]"
            row = (
                f"{purchase.purchase_id}\t{purchase.position}\t{time_text(purchase.requested_at)}\t{reservation_id}"
                f"\t{text(purchase.owner)}\t{text(purchase.reference)}\t{text(lines)}"
            )
            self.put(FULFILMENT_REQUESTS, row.encode())
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
