"""From what a caller asks of reservations to a command, the same for single calls and batches.

`common` is what `service.common` gives: request id, idempotency key, precondition.
"""

import uuid
from collections.abc import Sequence
from uuid import UUID

from msgspec import UNSET

from api.http.schemas import ReasonBody
from api.http.service import Common, Service, fingerprint
from api.resources.reservations.schemas import (
    CartBody,
    ChangeBody,
    ExtendBody,
    LineBody,
    LinesBody,
    PurchaseBody,
    ReserveBody,
)
from ledger.errors import InvalidError
from ledger.identifiers import identifier
from ledger.reservations.commands import (
    ChangeReservation,
    ExtendReservation,
    Line,
    MakeReservation,
    PurchaseReservation,
    ReleaseItem,
    ReleaseReservation,
    ReserveItem,
    ReturnPurchase,
)
from ledger.reservations.reservations import summed


def reserve(service: Service, body: ReserveBody, sku: str, quantity: int, common: Common) -> MakeReservation:
    return _make(service, body, (Line(sku, quantity),), common, cart=False, partial=False)


def make_cart(service: Service, body: CartBody, common: Common) -> MakeReservation:
    return _make(service, body, _lines(body.lines), common, cart=True, partial=body.partial)


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
    lines = _lines(body.lines) if isinstance(body, LinesBody) else None
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


def change(body: ChangeBody, reservation_id: UUID, common: Common) -> ChangeReservation:
    """Without `ttl_seconds` it ends when it would have."""
    return ChangeReservation(
        reservation_id=reservation_id,
        lines=_lines(body.lines),
        ttl_seconds=None if body.ttl_seconds is UNSET else body.ttl_seconds,
        reason=body.reason,
        reference=body.reference,
        **common,
    )


def purchase(service: Service, body: PurchaseBody, reservation_id: UUID, common: Common) -> PurchaseReservation:
    return PurchaseReservation(
        reservation_id=reservation_id,
        lines=None if body.lines is UNSET else _lines(body.lines),
        purchase_id=uuid.uuid4(),
        rehold_seconds=service.ttl(UNSET) if body.rehold else None,
        reason=body.reason,
        reference=body.reference,
        **common,
    )


def take_back(body: LinesBody, reservation_id: UUID, common: Common) -> ReturnPurchase:
    return ReturnPurchase(
        reservation_id=reservation_id,
        lines=_lines(body.lines),
        reason=body.reason,
        reference=body.reference,
        **common,
    )


def _lines(bodies: Sequence[LineBody]) -> tuple[Line, ...]:
    """A cart's lines, summed and in order; raises InvalidError naming each that is not just one of the two kinds."""
    bad: dict[str, str] = {}
    found = []
    for number, line in enumerate(bodies):
        try:
            found.append(_line(line))
        except InvalidError as error:
            bad |= {f"lines[{number}].{member}": must for member, must in error.members["errors"].items()}
    if bad:
        raise InvalidError(bad)
    return summed(found)


def _line(line: LineBody) -> Line:
    sku = identifier(line.sku, "sku")
    if line.sn is not UNSET:
        if line.quantity is not UNSET and line.quantity != 1:
            raise InvalidError({"quantity": "must be 1 or left out where there is an sn"})
        return Line(sku, 1, identifier(line.sn, "sn"))
    if line.quantity is UNSET:
        raise InvalidError({"quantity": "is missing"})
    return Line(sku, line.quantity)
