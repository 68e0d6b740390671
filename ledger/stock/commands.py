"""What is asked of fungible stock."""

from msgspec import UNSET, UnsetType

from ledger.catalogue.commands import ProductChanges, SkuCommand


class PutFungible(SkuCommand, frozen=True, kw_only=True):
    """Register a fungible product or revise it; `amount_in_stock` sets its level."""

    changes: ProductChanges = ProductChanges()
    amount_in_stock: int | UnsetType = UNSET


class AddStock(SkuCommand, frozen=True, kw_only=True):
    quantity: int


class RemoveStock(SkuCommand, frozen=True, kw_only=True):
    quantity: int
