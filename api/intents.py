"""From what a caller asks to a command of the ledger: one function each, the same for single calls and for batches.

`common` is what `service.common` gives: request id, idempotency key, precondition.
"""

import uuid
from typing import Any
from uuid import UUID

from api import requests
from api.schemas import CartBody, ExtendBody, FungibleBody, ItemBody, LinesBody, ReasonBody, ReserveBody
from api.service import Service, fingerprint
from ledger.catalogue.commands import ProductChanges
from ledger.items.commands import ItemChanges, PutItem
from ledger.reservations.commands import (
    ExtendReservation,
    Line,
    MakeReservation,
    PurchaseReservation,
    ReleaseItem,
    ReleaseReservation,
    ReserveItem,
    ReturnPurchase,
)
from ledger.stock.commands import AddStock, PutFungible, RemoveStock

Common = dict[str, Any]

_PRODUCT = ("name", "description", "color", "unit_price_cents", "shipping_weight_grams")
_ITEMS_PRODUCT = ("name", "description", "shipping_weight_grams")
_ITEM = ("color", "notes", "price_cents")


def put_fungible(body: FungibleBody, sku: str, common: Common) -> PutFungible:
    changes = ProductChanges(**requests.given(body, *_PRODUCT))
    return PutFungible(sku=sku, changes=changes, amount_in_stock=body.amount_in_stock, **common)


def add(body: ReasonBody, sku: str, quantity: int, common: Common) -> AddStock:
    return AddStock(sku=sku, quantity=quantity, reason=body.reason, reference=body.reference, **common)


def remove(body: ReasonBody, sku: str, quantity: int, common: Common) -> RemoveStock:
    return RemoveStock(sku=sku, quantity=quantity, reason=body.reason, reference=body.reference, **common)


def reserve(service: Service, body: ReserveBody, sku: str, quantity: int, common: Common) -> MakeReservation:
    return _make(service, body, (Line(sku, quantity),), common, cart=False, partial=False)


def make_cart(service: Service, body: CartBody, common: Common) -> MakeReservation:
    return _make(service, body, requests.lines(body.lines), common, cart=True, partial=body.partial)


def _make(
    service: Service, body: ReserveBody, lines: tuple[Line, ...], common: Common, *, cart: bool, partial: bool
) -> MakeReservation:
    ttl = service.ttl(body.ttl_seconds)
    content = (lines, ttl, body.owner, body.reference, partial)
    return MakeReservation(
        reservation_id=body.reservation_id or uuid.uuid4(),
        lines=lines,
        ttl_seconds=ttl,
        owner=body.owner,
        cart=cart,
        partial=partial,
        reason=body.reason,
        reference=body.reference,
        fingerprint=fingerprint(body.reservation_id, *content),
        **common,
    )


def put_item(body: ItemBody, sku: str, sn: str, common: Common) -> PutItem:
    return PutItem(
        sku=sku,
        sn=sn,
        purchase_id=uuid.uuid4(),
        product=ProductChanges(**requests.given(body, *_ITEMS_PRODUCT)),
        item=ItemChanges(**requests.given(body, *_ITEM)),
        sold=body.sold,
        **common,
    )


def reserve_item(service: Service, body: ReserveBody, sku: str, sn: str, common: Common) -> ReserveItem:
    return ReserveItem(
        sku=sku,
        sn=sn,
        reservation_id=body.reservation_id or uuid.uuid4(),
        ttl_seconds=service.ttl(body.ttl_seconds),
        owner=body.owner,
        reason=body.reason,
        reference=body.reference,
        **common,
    )


def release_item(body: ReasonBody, sku: str, sn: str, common: Common) -> ReleaseItem:
    return ReleaseItem(sku=sku, sn=sn, reason=body.reason, reference=body.reference, **common)


def release(body: ReasonBody | LinesBody, reservation_id: UUID, common: Common) -> ReleaseReservation:
    """All that is still held, or the lines that the body names."""
    lines = requests.lines(body.lines) if isinstance(body, LinesBody) else None
    return ReleaseReservation(
        reservation_id=reservation_id, lines=lines, reason=body.reason, reference=body.reference, **common
    )


def extend(service: Service, body: ExtendBody, reservation_id: UUID, common: Common) -> ExtendReservation:
    return ExtendReservation(
        reservation_id=reservation_id,
        ttl_seconds=service.ttl(body.ttl_seconds),
        reason=body.reason,
        reference=body.reference,
        **common,
    )


def purchase(body: ReasonBody, reservation_id: UUID, common: Common) -> PurchaseReservation:
    return PurchaseReservation(
        reservation_id=reservation_id,
        purchase_id=uuid.uuid4(),
        reason=body.reason,
        reference=body.reference,
        **common,
    )


def take_back(body: LinesBody, reservation_id: UUID, common: Common) -> ReturnPurchase:
    return ReturnPurchase(
        reservation_id=reservation_id,
        lines=requests.lines(body.lines),
        reason=body.reason,
        reference=body.reference,
        **common,
    )
