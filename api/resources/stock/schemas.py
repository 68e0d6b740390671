"""Fungible products on the wire, under the original store API's names."""

from datetime import datetime

from msgspec import UNSET, Struct, UnsetType

from api.http.schemas import Body
from api.resources.reservations.schemas import ReservationAnswer
from ledger.catalogue.products import Product
from ledger.identifiers import Amount, Text
from ledger.stock.levels import Stock


class FungibleBody(Body, frozen=True, kw_only=True):
    amount_in_stock: Amount | UnsetType = UNSET
    name: Text | UnsetType | None = UNSET
    description: Text | UnsetType | None = UNSET
    color: Text | UnsetType | None = UNSET
    unit_price_cents: Amount | UnsetType = UNSET
    shipping_weight_grams: Amount | UnsetType = UNSET


class FungibleAnswer(Struct, frozen=True, kw_only=True):
    sku: str
    name: str | None
    description: str | None
    color: str | None
    unit_price_cents: int
    shipping_weight_grams: int
    amount_in_stock: int
    reserved_quantity: int
    available_quantity: int
    version: int
    updated_at: datetime
    reservation: "ReservationAnswer | UnsetType" = UNSET

    @classmethod
    def of(cls, product: Product, stock: Stock, reservation: "ReservationAnswer | None" = None) -> "FungibleAnswer":
        return cls(
            sku=product.sku,
            name=product.name,
            description=product.description,
            color=product.color,
            unit_price_cents=product.unit_price_cents,
            shipping_weight_grams=product.shipping_weight_grams,
            amount_in_stock=stock.on_hand,
            reserved_quantity=stock.reserved,
            available_quantity=stock.available,
            version=product.version + stock.version,
            updated_at=max(product.updated_at, stock.updated_at or product.updated_at),
            reservation=reservation or UNSET,
        )
