"""What is asked about products."""

from msgspec import UNSET, Struct, UnsetType

from ledger.commands import Command


class SkuCommand(Command, frozen=True, kw_only=True):
    sku: str


class ProductChanges(Struct, frozen=True, kw_only=True):
    """Members of a product that are to be set; null clears a text."""

    name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    color: str | UnsetType | None = UNSET
    unit_price_cents: int | UnsetType = UNSET
    shipping_weight_grams: int | UnsetType = UNSET
