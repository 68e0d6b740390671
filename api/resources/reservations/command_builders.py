"""From what a caller asks of reservations to a command, the same for single calls and batches.

`common` is what `service.common` gives: request id, idempotency key, precondition.
"""

import uuid
from uuid import UUID

from api.http import requests
from api.http.common_members import Common
from api.http.schemas import ReasonBody
from api.http.service import Service, fingerprint
from api.resources.reservations.schemas import CartBody, ExtendBody, LinesBody, ReserveBody
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
