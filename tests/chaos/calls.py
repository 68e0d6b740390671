"""Commands as HTTP calls, as a client of the documented API would write them."""

from typing import Any, NamedTuple
from urllib.parse import quote

from msgspec import UNSET

from ledger.commands import Command
from ledger.items.commands import PutItem
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
from ledger.stock.commands import AddStock, PutFungible, RemoveStock


class Call(NamedTuple):
    """`records`: when it is acknowledged, something was recorded; the others may find nothing left to do.

    `entries` is how many entries of the log it makes, where that does not depend on what there is.
    """

    kind: str
    method: str
    path: str
    body: dict[str, Any] | None = None
    records: bool = True
    entries: int | None = None


def call_of(command: Command) -> Call:
    kind = type(command).__name__
    match command:
        case PutFungible():
            body = {} if command.amount_in_stock is UNSET else {"amount_in_stock": command.amount_in_stock}
            return Call(kind, "PUT", fungible(command.sku), body, records=False)
        case AddStock():
            return Call(kind, "POST", f"{fungible(command.sku)}/add/{command.quantity}", entries=1)
        case RemoveStock():
            return Call(kind, "POST", f"{fungible(command.sku)}/remove/{command.quantity}", entries=1)
        case PutItem():
            body = {} if command.sold is UNSET else {"sold": command.sold}
            return Call(kind, "PUT", item(command.sku, command.sn), body, records=False)
        case ReserveItem():
            body = {"reservation_id": str(command.reservation_id), "ttl_seconds": command.ttl_seconds}
            return Call(kind, "PUT", f"{item(command.sku, command.sn)}/reservation", body)
        case ReleaseItem():
            return Call(kind, "DELETE", f"{item(command.sku, command.sn)}/reservation", records=False)
        case MakeReservation():
            return _make(command)
        case ReleaseReservation(lines=None):
            return Call(kind, "DELETE", reservation(command.reservation_id), records=False)
        case ReleaseReservation(lines=lines):
            return Call(kind, "POST", f"{reservation(command.reservation_id)}/release", {"lines": _lines(lines)})
        case ExtendReservation():
            body = {"ttl_seconds": command.ttl_seconds}
            return Call(kind, "POST", f"{reservation(command.reservation_id)}/extend", body)
        case ChangeReservation():
            body = {"lines": _lines(command.lines)}
            if command.ttl_seconds is not None:
                body["ttl_seconds"] = command.ttl_seconds
            return Call(kind, "PUT", reservation(command.reservation_id), body, records=False)
        case PurchaseReservation():
            body = {} if command.lines is None else {"lines": _lines(command.lines)}
            body |= {} if command.rehold_seconds is None else {"rehold": True}
            return Call(kind, "POST", f"{reservation(command.reservation_id)}/purchase", body or None)
        case ReturnPurchase():
            body = {"lines": _lines(command.lines)}
            return Call(kind, "POST", f"{reservation(command.reservation_id)}/return", body)
    raise TypeError(f"no call for {command!r}")


def look(path: str) -> Call:
    return Call("Look", "GET", path, records=False)


def transfer(quantity: int, source: str, target: str) -> Call:
    """From one product to another, both or neither."""
    commands = [
        {"command": "remove", "sku": source, "quantity": quantity},
        {"command": "add", "sku": target, "quantity": quantity},
    ]
    return Call("Transfer", "POST", "/api/batch", {"mode": "all", "commands": commands}, entries=2)


def _make(command: MakeReservation) -> Call:
    """One quantity by the product's own call, everything else as a cart."""
    body = {"reservation_id": str(command.reservation_id), "ttl_seconds": command.ttl_seconds}
    (first, *more) = command.lines
    if more or first.sn is not None or command.partial:
        cart = {"lines": _lines(command.lines), "partial": command.partial}
        return Call("MakeReservation", "POST", "/api/reservations", body | cart)
    return Call("MakeReservation", "POST", f"{fungible(first.sku)}/reserve/{first.quantity}", body)


def fungible(sku: str) -> str:
    return f"/api/fungible/{quote(sku, safe='')}"


def item(sku: str, sn: str) -> str:
    return f"/api/non-fungible/{quote(sku, safe='')}/{quote(sn, safe='')}"


def reservation(reservation_id: object) -> str:
    return f"/api/reservations/{reservation_id}"


def _lines(lines: tuple[Line, ...]) -> list[dict[str, Any]]:
    return [
        {"sku": line.sku, "quantity": line.quantity} if line.sn is None else {"sku": line.sku, "sn": line.sn}
        for line in lines
    ]
