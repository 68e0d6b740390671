"""Every intent, one frozen Struct each. Ids and durations come in as arguments; the database's clock gives the time.

A command names what it touches (`skus`, `items`, `reservations`), so that one query can load it all beforehand.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from ledger.errors import PreconditionFailedError


class Key(Struct, frozen=True):
    """An idempotency key and the SHA-256 of the request it came with."""

    key: str
    request_hash: bytes


class Precondition(Struct, frozen=True):
    """What must hold of the product or item before: no `versions` mean it must not exist, None means any version."""

    versions: frozenset[int] | None

    def check(self, version: int | None) -> None:
        """Raises PreconditionFailedError; `version` is None where there is nothing yet."""
        if self.versions is None:
            holds = version is not None
        elif self.versions:
            holds = version in self.versions
        else:
            holds = version is None
        if not holds:
            raise PreconditionFailedError(version, wanted_absent=self.versions == frozenset())


class Command(Struct, frozen=True, kw_only=True):
    """Who asks, in which request, and why."""

    actor: str = "anonymous"
    request_id: str = ""
    reason: str | None = None
    reference: str | None = None
    key: Key | None = None
    precondition: Precondition | None = None

    def by(self) -> dict[str, Any]:
        """Who and why, as every event carries it."""
        return {
            "actor": self.actor,
            "request_id": self.request_id,
            "reason": self.reason,
            "reference": self.reference,
        }

    def check(self, version: int | None) -> None:
        """Raises PreconditionFailedError unless the caller's precondition, if any, holds of `version`."""
        if self.precondition is not None:
            self.precondition.check(version)

    def skus(self) -> Iterable[str]:
        """SKUs whose product and stock the rule looks at."""
        return ()

    def items(self) -> Iterable[tuple[str, str]]:
        """(SKU, serial number) pairs that the rule looks at."""
        return ()

    def reservations(self) -> Iterable[UUID]:
        """Reservations that the rule looks at, with all that they hold."""
        return ()


class SkuCommand(Command, frozen=True, kw_only=True):
    sku: str

    def skus(self) -> Iterable[str]:
        return (self.sku,)


class ProductChanges(Struct, frozen=True, kw_only=True):
    """Members of a product that are to be set; null clears a text."""

    name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    color: str | UnsetType | None = UNSET
    unit_price_cents: int | UnsetType = UNSET
    shipping_weight_grams: int | UnsetType = UNSET


class ItemChanges(Struct, frozen=True, kw_only=True):
    """Members of an item that are to be set; null clears a text."""

    color: str | UnsetType | None = UNSET
    notes: str | UnsetType | None = UNSET
    price_cents: int | UnsetType = UNSET


class PutFungible(SkuCommand, frozen=True, kw_only=True):
    """Register a fungible product or revise it; `amount_in_stock` sets its level."""

    changes: ProductChanges = ProductChanges()
    amount_in_stock: int | UnsetType = UNSET


class AddStock(SkuCommand, frozen=True, kw_only=True):
    quantity: int


class RemoveStock(SkuCommand, frozen=True, kw_only=True):
    quantity: int


class ItemCommand(SkuCommand, frozen=True, kw_only=True):
    sn: str

    def items(self) -> Iterable[tuple[str, str]]:
        return ((self.sku, self.sn),)


class PutItem(ItemCommand, frozen=True, kw_only=True):
    """Add an item or revise it and its product; `sold` records a purchase or a return.

    `purchase_id` names the purchase if there is one.
    """

    purchase_id: UUID
    product: ProductChanges = ProductChanges()
    item: ItemChanges = ItemChanges()
    sold: bool | UnsetType = UNSET


class ReserveItem(ItemCommand, frozen=True, kw_only=True):
    """Reserve one item; the same open reservation again extends it from now."""

    reservation_id: UUID
    ttl_seconds: int
    owner: str | None = None

    def reservations(self) -> Iterable[UUID]:
        return (self.reservation_id,)


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

    def skus(self) -> Iterable[str]:
        return [line.sku for line in self.lines]

    def items(self) -> Iterable[tuple[str, str]]:
        return [(line.sku, line.sn) for line in self.lines if line.sn is not None]

    def reservations(self) -> Iterable[UUID]:
        """An id of our own making is new: there is nothing to look up."""
        return () if self.fingerprint is None else (self.reservation_id,)


class ReservationCommand(Command, frozen=True, kw_only=True):
    reservation_id: UUID

    def reservations(self) -> Iterable[UUID]:
        return (self.reservation_id,)


class ReleaseReservation(ReservationCommand, frozen=True, kw_only=True):
    """Release the given lines, or all that is still held."""

    lines: tuple[Line, ...] | None = None


class ExpireReservation(ReservationCommand, frozen=True, kw_only=True):
    """Write down that a reservation is over; nothing happens if it is not, or if that is written down already."""


class ExtendReservation(ReservationCommand, frozen=True, kw_only=True):
    ttl_seconds: int


class PurchaseReservation(ReservationCommand, frozen=True, kw_only=True):
    purchase_id: UUID


class ReturnPurchase(ReservationCommand, frozen=True, kw_only=True):
    lines: tuple[Line, ...]


class Group(Struct, frozen=True):
    """Commands of one caller, in order: each for itself, or all or nothing.

    `key` came with the request for all of them; each command has one of its own made of it.
    """

    commands: Sequence[Command]
    atomic: bool = False
    key: Key | None = None
