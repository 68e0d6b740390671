"""Items and their products on the wire, under the original store API's names."""

from datetime import datetime
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from api.http.schemas import Body
from ledger.catalogue.products import Product
from ledger.identifiers import Amount, Text
from ledger.items.items import Item
from projections.items.items import Counted


class ItemBody(Body, frozen=True, kw_only=True):
    name: Text | UnsetType | None = UNSET
    description: Text | UnsetType | None = UNSET
    color: Text | UnsetType | None = UNSET
    notes: Text | UnsetType | None = UNSET
    price_cents: Amount | UnsetType = UNSET
    shipping_weight_grams: Amount | UnsetType = UNSET
    sold: bool | UnsetType = UNSET


class ItemAnswer(Struct, frozen=True, kw_only=True):
    sku: str
    sn: str
    name: str | None
    description: str | None
    color: str | None
    notes: str | None
    price_cents: int
    shipping_weight_grams: int
    reserved: datetime | None
    reserved_until: datetime | None
    reservation_id: UUID | None
    sold: bool
    version: int
    updated_at: datetime

    @classmethod
    def of(cls, product: Product, item: Item) -> "ItemAnswer":
        return cls(
            sku=item.sku,
            sn=item.sn,
            name=product.name,
            description=product.description,
            color=item.color,
            notes=item.notes,
            price_cents=item.price_cents,
            shipping_weight_grams=product.shipping_weight_grams,
            reserved=item.reserved_at,
            reserved_until=item.reserved_until,
            reservation_id=item.reservation_id,
            sold=item.sold,
            version=product.version + item.version,
            updated_at=max(product.updated_at, item.updated_at),
        )


class NonFungibleAnswer(Struct, frozen=True, kw_only=True):
    """A non-fungible product with counts of its items."""

    sku: str
    name: str | None
    description: str | None
    shipping_weight_grams: int
    item_count: int
    available_count: int
    reserved_count: int
    sold_count: int
    items: list[ItemAnswer] | UnsetType = UNSET
    next_cursor: str | UnsetType | None = UNSET

    @classmethod
    def of(
        cls,
        counted: Counted,
        items: list[ItemAnswer] | UnsetType = UNSET,
        next_cursor: str | UnsetType | None = UNSET,
    ) -> "NonFungibleAnswer":
        product = counted.product
        return cls(
            sku=product.sku,
            name=product.name,
            description=product.description,
            shipping_weight_grams=product.shipping_weight_grams,
            item_count=counted.total,
            available_count=counted.total - counted.sold - counted.reserved,
            reserved_count=counted.reserved,
            sold_count=counted.sold,
            items=items,
            next_cursor=next_cursor,
        )
