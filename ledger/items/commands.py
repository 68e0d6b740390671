"""What is asked of items."""

from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from ledger.catalogue.commands import ProductChanges, SkuCommand


class ItemChanges(Struct, frozen=True, kw_only=True):
    """Members of an item that are to be set; null clears a text."""

    color: str | UnsetType | None = UNSET
    notes: str | UnsetType | None = UNSET
    price_cents: int | UnsetType = UNSET


class ItemCommand(SkuCommand, frozen=True, kw_only=True):
    sn: str


class PutItem(ItemCommand, frozen=True, kw_only=True):
    """Add an item or revise it and its product; `sold` records a purchase or a return.

    `purchase_id` names the purchase if there is one.
    """

    purchase_id: UUID
    product: ProductChanges = ProductChanges()
    item: ItemChanges = ItemChanges()
    sold: bool | UnsetType = UNSET
