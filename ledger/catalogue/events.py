"""Facts of products: what a SKU is."""

from typing import Literal

from msgspec import UNSET, UnsetType

from ledger.facts import Event

Kind = Literal["fungible", "non-fungible"]


class ProductRegistered(Event, frozen=True, kw_only=True):
    kind: Kind
    name: str | None = None
    description: str | None = None
    color: str | None = None
    unit_price_cents: int = 0
    shipping_weight_grams: int = 0


class ProductRevised(Event, frozen=True, kw_only=True):
    """Holds the changed members only."""

    name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    color: str | UnsetType | None = UNSET
    unit_price_cents: int | UnsetType = UNSET
    shipping_weight_grams: int | UnsetType = UNSET


# By the name under which each is stored, written out so that renaming a class cannot change history.
FACTS: dict[str, type[Event]] = {
    "ProductRegistered.v1": ProductRegistered,
    "ProductRevised.v1": ProductRevised,
}
