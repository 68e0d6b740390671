"""What is asked of reservations: carts, and holds on single items."""

from uuid import UUID

from msgspec import Struct

from ledger.commands import Command
from ledger.items.commands import ItemCommand


class ReserveItem(ItemCommand, frozen=True, kw_only=True):
    """Reserve one item; the same open reservation again extends it from now."""

    reservation_id: UUID
    ttl_seconds: int
    owner: str | None = None


class ReleaseItem(ItemCommand, frozen=True, kw_only=True):
    """Release whatever reservation holds the item; nothing happens if none does."""


class Line(Struct, frozen=True, order=True):
    """A quantity of a SKU, or one item (`quantity` 1) where `sn` is given."""

    sku: str
    quantity: int = 1
    sn: str | None = None


class MakeReservation(Command, frozen=True, kw_only=True):
    """Reserve all lines or none; with `partial`, what there is of each.

    `lines` are summed and in order (see `reservations.summed`). `fingerprint` is given where the caller chose the id.
    `cart` when the caller asked for lines rather than for a quantity of one product, and is answered alike.
    """

    reservation_id: UUID
    lines: tuple[Line, ...]
    ttl_seconds: int
    owner: str | None = None
    cart: bool = False
    partial: bool = False
    fingerprint: str | None = None


class ReservationCommand(Command, frozen=True, kw_only=True):
    reservation_id: UUID


class ReleaseReservation(ReservationCommand, frozen=True, kw_only=True):
    """Release the given lines, or all that is still held."""

    lines: tuple[Line, ...] | None = None


class ExpireReservation(ReservationCommand, frozen=True, kw_only=True):
    """Write down that a reservation is over; nothing happens if it is not, or if that is written down already."""


class ExtendReservation(ReservationCommand, frozen=True, kw_only=True):
    ttl_seconds: int


class ChangeReservation(ReservationCommand, frozen=True, kw_only=True):
    """Have an open reservation hold exactly these lines, summed and in order; `ttl_seconds` from now, if given."""

    lines: tuple[Line, ...]
    ttl_seconds: int | None = None


class PurchaseReservation(ReservationCommand, frozen=True, kw_only=True):
    """Buy the given lines, summed and in order, or all that is held.

    With `rehold_seconds`, all that an expired reservation held is held again first, for so long.
    """

    purchase_id: UUID
    lines: tuple[Line, ...] | None = None
    rehold_seconds: int | None = None


class ReturnPurchase(ReservationCommand, frozen=True, kw_only=True):
    lines: tuple[Line, ...]
