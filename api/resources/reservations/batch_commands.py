"""Commands of a batch on reservations."""

from uuid import UUID

from msgspec import UNSET, UnsetType

from api.http.batch_members import OwnKey, none_of, refuse_members
from api.http.schemas import ReasonBody
from api.http.service import Common, Service
from api.resources.reservations.command_builders import (
    change,
    extend,
    make_cart,
    purchase,
    release,
    release_item,
    reserve,
    reserve_item,
    take_back,
)
from api.resources.reservations.schemas import (
    CartBody,
    ChangeBody,
    ExtendBody,
    Lines,
    LinesBody,
    PurchaseBody,
    ReserveBody,
)
from api.room import BatchCommand
from ledger.commands import Command
from ledger.errors import InvalidError
from ledger.identifiers import Name, Quantity, identifier


class Reserve(ReserveBody, tag_field="command", tag="reserve", frozen=True, kw_only=True):
    """A quantity of a SKU, an item, or a cart's lines."""

    sku: Name | UnsetType = UNSET
    quantity: Quantity | UnsetType = UNSET
    sn: Name | UnsetType = UNSET
    lines: Lines | UnsetType = UNSET
    partial: bool | UnsetType = UNSET
    idempotency_key: OwnKey | None = None


class Release(ReasonBody, tag_field="command", tag="release", frozen=True, kw_only=True):
    """A reservation, some of its lines, or whatever holds an item."""

    reservation_id: UUID | UnsetType = UNSET
    lines: Lines | UnsetType = UNSET
    sku: Name | UnsetType = UNSET
    sn: Name | UnsetType = UNSET
    idempotency_key: OwnKey | None = None


class Extend(ExtendBody, tag_field="command", tag="extend", frozen=True, kw_only=True):
    reservation_id: UUID
    idempotency_key: OwnKey | None = None


class Change(ChangeBody, tag_field="command", tag="change", frozen=True, kw_only=True):
    reservation_id: UUID
    idempotency_key: OwnKey | None = None


class Purchase(PurchaseBody, tag_field="command", tag="purchase", frozen=True, kw_only=True):
    reservation_id: UUID
    idempotency_key: OwnKey | None = None


class Return(LinesBody, tag_field="command", tag="return", frozen=True, kw_only=True):
    reservation_id: UUID
    idempotency_key: OwnKey | None = None


def _reserve(service: Service, intent: Reserve, common: Common) -> Command:
    if intent.lines is not UNSET:
        refuse_members(intent, "sku", "sn", "quantity")
        cart = {field: getattr(intent, field) for field in ReserveBody.__struct_fields__}
        return make_cart(service, CartBody(lines=intent.lines, partial=intent.partial is True, **cart), common)
    refuse_members(intent, "partial")
    if intent.sku is UNSET:
        raise InvalidError({"sku": "is missing"})
    sku = identifier(intent.sku, "sku")
    if intent.sn is not UNSET:
        refuse_members(intent, "quantity")
        return reserve_item(service, intent, sku, identifier(intent.sn, "sn"), common)
    if intent.quantity is UNSET:
        raise InvalidError({"quantity": "is missing"})
    return reserve(service, intent, sku, intent.quantity, common)


def _release(_service: Service, intent: Release, common: Common) -> Command:
    if intent.reservation_id is not UNSET:
        refuse_members(intent, "sku", "sn")
        if intent.lines is UNSET:
            return release(intent, intent.reservation_id, common)
        body = LinesBody(lines=intent.lines, reason=intent.reason, reference=intent.reference)
        return release(body, intent.reservation_id, common)
    refuse_members(intent, "lines")
    if intent.sku is UNSET or intent.sn is UNSET:
        raise InvalidError({"reservation_id": "is missing, or sku and sn are"})
    return release_item(intent, identifier(intent.sku, "sku"), identifier(intent.sn, "sn"), common)


def _extend(service: Service, intent: Extend, common: Common) -> Command:
    return extend(service, intent, intent.reservation_id, common)


def _change(_service: Service, intent: Change, common: Common) -> Command:
    return change(intent, intent.reservation_id, common)


def _purchase(service: Service, intent: Purchase, common: Common) -> Command:
    return purchase(service, intent, intent.reservation_id, common)


def _return(_service: Service, intent: Return, common: Common) -> Command:
    return take_back(intent, intent.reservation_id, common)


BATCH = (
    BatchCommand(
        Reserve,
        _reserve,
        {
            "anyOf": [
                {"required": ["lines"], **none_of("sku", "sn", "quantity")},
                {"required": ["sku", "quantity"], **none_of("lines", "sn", "partial")},
                {"required": ["sku", "sn"], **none_of("lines", "quantity", "partial")},
            ]
        },
    ),
    BatchCommand(
        Release,
        _release,
        {
            "anyOf": [
                {"required": ["reservation_id"], **none_of("sku", "sn")},
                {"required": ["sku", "sn"], **none_of("reservation_id", "lines")},
            ]
        },
    ),
    BatchCommand(Extend, _extend),
    BatchCommand(Change, _change),
    BatchCommand(Purchase, _purchase),
    BatchCommand(Return, _return),
)
