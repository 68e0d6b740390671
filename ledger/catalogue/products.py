"""Products: what a SKU is. Registering and revising."""

from datetime import datetime
from typing import Any

from msgspec import UNSET, Struct, structs

from ledger.catalogue.commands import ProductChanges
from ledger.catalogue.errors import OtherKindError, UnknownProductError
from ledger.catalogue.events import Kind, ProductRegistered, ProductRevised
from ledger.facts import Entry, Event
from ledger.state import StateKind
from ledger.streams import parse_stream, product_stream

_MEMBERS = ("name", "description", "color", "unit_price_cents", "shipping_weight_grams")


class Product(Struct, frozen=True):
    """`version` counts the product's own facts."""

    sku: str
    kind: Kind
    name: str | None
    description: str | None
    color: str | None
    unit_price_cents: int
    shipping_weight_grams: int
    version: int
    registered_at: datetime
    updated_at: datetime


def require(product: Product | None, sku: str, kind: Kind) -> Product:
    """Return the product; raises UnknownProductError, then OtherKindError."""
    if product is None:
        raise UnknownProductError(sku)
    if product.kind != kind:
        raise OtherKindError(sku, product.kind)
    return product


def put(product: Product | None, kind: Kind, changes: ProductChanges, by: dict[str, Any]) -> list[Event]:
    """Register the product if there is none, else revise the members that differ."""
    if product is None:
        return [ProductRegistered(kind=kind, **given(changes), **by)]
    changed = differing(product, changes)
    return [ProductRevised(**changed, **by)] if changed else []


def given(changes: Struct) -> dict[str, Any]:
    """The members that a caller gave."""
    return {member: value for member, value in structs.asdict(changes).items() if value is not UNSET}


def differing(state: Struct, changes: Struct) -> dict[str, Any]:
    """The members that a caller gave and that `state` has otherwise."""
    return {member: value for member, value in given(changes).items() if getattr(state, member) != value}


def evolve(product: Product | None, entry: Entry) -> Product:
    match entry.event:
        case ProductRegistered() as event:
            sku = entry.stream.partition("/")[2]
            members = {member: getattr(event, member) for member in _MEMBERS}
            at = entry.recorded_at
            return Product(sku, event.kind, **members, version=entry.version, registered_at=at, updated_at=at)
        case ProductRevised() as event if product is not None:
            changed = {m: value for m in _MEMBERS if (value := getattr(event, m)) is not UNSET}
            return structs.replace(product, **changed, version=entry.version, updated_at=entry.recorded_at)
    raise TypeError(f"not a fact of product {entry.stream}: {entry.event!r}")


def _nothing(_sku: str) -> None:
    return None


PRODUCTS: StateKind[str, Product | None] = StateKind(
    "products",
    evolve,
    _nothing,
    family="product",
    key_of_stream=lambda stream: parse_stream(stream)[1],
    stream_of=product_stream,
)
