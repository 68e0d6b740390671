"""What goes over the wire: bodies that callers send, and answers they get, under the original store API's names."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from ledger.catalogue.products import Product
from ledger.identifiers import Amount, Name, Quantity, Text, TtlSeconds
from ledger.items.items import Item
from ledger.reservations.reservations import HeldLine, Reservation, State
from ledger.stock.errors import Shortage
from ledger.stock.levels import Stock
from projections.items.items import Counted

# More lines than any real invoice has; a cart is decided under the log's lock.
MAX_LINES = 2_000


class Body(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Members that a caller leaves out are unset; null clears a text."""


class FungibleBody(Body, frozen=True, kw_only=True):
    amount_in_stock: Amount | UnsetType = UNSET
    name: Text | UnsetType | None = UNSET
    description: Text | UnsetType | None = UNSET
    color: Text | UnsetType | None = UNSET
    unit_price_cents: Amount | UnsetType = UNSET
    shipping_weight_grams: Amount | UnsetType = UNSET


class ItemBody(Body, frozen=True, kw_only=True):
    name: Text | UnsetType | None = UNSET
    description: Text | UnsetType | None = UNSET
    color: Text | UnsetType | None = UNSET
    notes: Text | UnsetType | None = UNSET
    price_cents: Amount | UnsetType = UNSET
    shipping_weight_grams: Amount | UnsetType = UNSET
    sold: bool | UnsetType = UNSET


class ReasonBody(Body, frozen=True, kw_only=True):
    reason: Text | None = None
    reference: Text | None = None


class ReserveBody(ReasonBody, frozen=True, kw_only=True):
    reservation_id: UUID | None = None
    ttl_seconds: TtlSeconds | UnsetType = UNSET
    owner: Text | None = None


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


class LineAnswer(Struct, frozen=True, kw_only=True):
    """A quantity of a SKU, or one item; `returned` is there when some came back after the purchase."""

    sku: str
    sn: str | UnsetType = UNSET
    quantity: int | UnsetType = UNSET
    released: int
    purchased: int
    returned: int | UnsetType = UNSET

    @classmethod
    def of(cls, line: HeldLine, *, lapsed: bool) -> "LineAnswer":
        """With `lapsed`, what is still held shows as released: the hold is over by the clock."""
        return cls(
            sku=line.sku,
            sn=UNSET if line.sn is None else line.sn,
            quantity=line.quantity if line.sn is None else UNSET,
            released=line.released + (line.remaining if lapsed else 0),
            purchased=line.purchased,
            returned=line.returned or UNSET,
        )


class ReservationAnswer(Struct, frozen=True, kw_only=True):
    id: UUID
    state: State
    owner: str | None
    reference: str | None
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    lines: list[LineAnswer]
    missing: "list[ShortageAnswer] | UnsetType" = UNSET

    @classmethod
    def of(cls, r: Reservation, now: datetime | None = None) -> "ReservationAnswer":
        """As the reservation stands in the log; with `now`, as it stands by the clock."""
        state = r.state if now is None else r.state_at(now)
        return cls(
            id=r.reservation_id,
            state=state,
            owner=r.owner,
            reference=r.reference,
            created_at=r.created_at,
            expires_at=r.expires_at,
            ended_at=r.expires_at if state != r.state else r.ended_at,
            lines=[LineAnswer.of(line, lapsed=state != r.state) for line in r.lines.values()],
        )


class ShortageAnswer(Struct, frozen=True, kw_only=True):
    sku: str
    sn: str | UnsetType = UNSET
    requested: int
    available: int
    held_by_others: int
    next_release_at: datetime | None

    @classmethod
    def of(cls, s: Shortage, next_release_at: dict[tuple[str, str | None], datetime | None]) -> "ShortageAnswer":
        return cls(
            sku=s.sku,
            sn=UNSET if s.sn is None else s.sn,
            requested=s.requested,
            available=s.available,
            held_by_others=s.held_by_others,
            next_release_at=next_release_at.get((s.sku, s.sn)),
        )


class LineBody(Body, frozen=True, kw_only=True):
    sku: Name
    quantity: Quantity | UnsetType = UNSET
    sn: Name | UnsetType = UNSET


Lines = Annotated[list[LineBody], Meta(min_length=1, max_length=MAX_LINES)]


class CartBody(ReserveBody, frozen=True, kw_only=True):
    lines: Lines
    partial: bool = False


class LinesBody(ReasonBody, frozen=True, kw_only=True):
    lines: Lines


class ExtendBody(ReasonBody, frozen=True, kw_only=True):
    ttl_seconds: TtlSeconds | UnsetType = UNSET
