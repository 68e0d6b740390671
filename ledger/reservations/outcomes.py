"""What commands on reservations leave behind."""

from ledger.catalogue.products import Product
from ledger.outcome import Outcome
from ledger.reservations.reservations import Reservation
from ledger.stock.errors import Shortage
from ledger.stock.levels import Stock


class ReservationOutcome(Outcome, frozen=True, kw_only=True):
    """`reservation` is None for one that there never was: only the expiry process names such."""

    reservation: Reservation | None = None


class MadeOutcome(Outcome, frozen=True, kw_only=True):
    """Of a cart: its first line's product and stock beside it, and what a partial one could not get."""

    product: Product
    stock: Stock
    reservation: Reservation
    missing: tuple[Shortage, ...] = ()
