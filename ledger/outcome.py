"""What a command left behind."""

from msgspec import Struct

from ledger.catalogue.products import Product
from ledger.items.items import Item
from ledger.reservations.reservations import Reservation
from ledger.stock.errors import Shortage
from ledger.stock.levels import Stock


class Outcome(Struct, frozen=True, omit_defaults=True):
    """What a command left behind, at log position `position`: the parts that its caller asked about.

    `replayed` when it is the kept outcome of an earlier request with the same idempotency key.
    """

    position: int
    product: Product | None = None
    stock: Stock | None = None
    item: Item | None = None
    reservation: Reservation | None = None
    missing: tuple[Shortage, ...] = ()
    replayed: bool = False
