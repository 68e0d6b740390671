"""Ledgers drawn at random, whose last fact is of a chosen kind: what the host's commands are tried on."""

import random
import time
import uuid
from collections.abc import Iterator
from uuid import UUID

from ledger.catalogue.commands import ProductChanges
from ledger.commands import Command
from ledger.engine.ledger import Ledger
from ledger.errors import LedgerError
from ledger.items.commands import ItemChanges, PutItem
from ledger.reservations.commands import (
    ChangeReservation,
    ExpireReservation,
    ExtendReservation,
    Line,
    MakeReservation,
    PurchaseReservation,
    ReleaseItem,
    ReleaseReservation,
    ReturnPurchase,
)
from ledger.stock.commands import AddStock, PutFungible, RemoveStock

STOCK, THING, PIECE = "A €𝕬", "N", "sn 1"


def drawn(chance: random.Random) -> Iterator[Command]:
    """Some commands, whatever comes of them."""
    made: list[UUID] = []
    for _ in range(chance.randrange(4, 25)):
        sku, sn = chance.choice((STOCK, "B")), f"sn {chance.randrange(4)}"
        reservation_id = chance.choice(made) if made else uuid.uuid4()
        kind = chance.randrange(15)
        if kind == 0:
            yield PutFungible(
                sku=sku, changes=ProductChanges(name=f"name {kind}"), amount_in_stock=chance.randrange(50)
            )
        elif kind in (1, 2):
            yield AddStock(sku=sku, quantity=chance.randrange(1, 9), reason="delivery")
        elif kind == 3:
            yield RemoveStock(sku=sku, quantity=chance.randrange(1, 5))
        elif kind == 4:
            yield put_item(sn, price_cents=chance.randrange(1_000))
        elif kind in (5, 6):
            made.append(uuid.uuid4())
            yield cart(made[-1], Line(STOCK, chance.randrange(1, 4)), Line("B", 1), Line(THING, 1, sn))
        elif kind == 7:
            yield ReleaseReservation(reservation_id=reservation_id)
        elif kind == 8:
            yield ExtendReservation(reservation_id=reservation_id, ttl_seconds=chance.randrange(60, 600))
        elif kind == 9:
            yield PurchaseReservation(reservation_id=reservation_id, purchase_id=uuid.uuid4())
        elif kind == 10:
            yield ReturnPurchase(reservation_id=reservation_id, lines=(Line(STOCK, 1),))
        elif kind == 11:
            lines = tuple(sorted((Line(STOCK, chance.randrange(1, 6)), Line("B", chance.randrange(1, 3)))))
            ttl = chance.choice((None, 600))
            yield ChangeReservation(reservation_id=reservation_id, lines=lines, ttl_seconds=ttl)
        elif kind == 12:
            yield ChangeReservation(reservation_id=reservation_id, lines=(Line(THING, 1, sn),))
        elif kind == 13:
            yield PurchaseReservation(reservation_id=reservation_id, purchase_id=uuid.uuid4(), lines=(Line(STOCK, 1),))
        else:
            yield ReleaseItem(sku=THING, sn=sn)


def put_item(sn: str = PIECE, *, sold: bool | None = None, price_cents: int | None = None) -> PutItem:
    given = {} if sold is None else {"sold": sold}
    item = ItemChanges() if price_cents is None else ItemChanges(price_cents=price_cents)
    return PutItem(sku=THING, sn=sn, purchase_id=uuid.uuid4(), item=item, **given)


def cart(reservation_id: UUID, *lines: Line, ttl_seconds: int = 3_600) -> MakeReservation:
    return MakeReservation(
        reservation_id=reservation_id, lines=tuple(sorted(lines)), ttl_seconds=ttl_seconds, cart=True
    )


def held(*lines: Line, ttl_seconds: int = 3_600) -> tuple[UUID, list[Command]]:
    """A reservation of lines of which there is enough."""
    reservation_id = uuid.uuid4()
    return reservation_id, [cart(reservation_id, *lines, ttl_seconds=ttl_seconds)]


def ending(kind: str) -> list[Command]:
    """Commands that all succeed on a ledger that holds the two products below, the last fact being of that kind."""
    stock, item = Line(STOCK, 2), Line(THING, 1, PIECE)
    line = stock if kind.startswith("Stock") else item
    reservation_id, make = held(line, ttl_seconds=1 if kind.endswith(("expired", "again")) else 3_600)
    purchase = PurchaseReservation(reservation_id=reservation_id, purchase_id=uuid.uuid4())
    ends: dict[str, list[Command]] = {
        "ProductRegistered": [PutFungible(sku=f"new {reservation_id}"[:40])],
        "ProductRevised": [PutFungible(sku=STOCK, changes=ProductChanges(name=str(reservation_id)))],
        "StockAdded": [AddStock(sku=STOCK, quantity=1)],
        "StockRemoved": [AddStock(sku=STOCK, quantity=1), RemoveStock(sku=STOCK, quantity=1)],
        "ItemAdded": [put_item(str(reservation_id))],
        "ItemRevised": [put_item(price_cents=1), put_item(price_cents=2)],
    }
    acts: dict[str, list[Command]] = {
        "Reserved": [],
        "Released": [ReleaseReservation(reservation_id=reservation_id)],
        "Released expired": [ExpireReservation(reservation_id=reservation_id)],
        "Purchased": [purchase],
        "Purchased again": [
            ExpireReservation(reservation_id=reservation_id),
            PurchaseReservation(reservation_id=reservation_id, purchase_id=uuid.uuid4(), rehold_seconds=60),
        ],
        "Returned": [purchase, ReturnPurchase(reservation_id=reservation_id, lines=(line,))],
        "ReservationExtended": [ExtendReservation(reservation_id=reservation_id, ttl_seconds=60)],
    }
    act = kind.removeprefix("Stock").removeprefix("Item")
    return ends[kind] if kind in ends else [*make, *acts[act]]


ACTS = ("Reserved", "Released", "Released expired", "Purchased", "Purchased again", "Returned", "ReservationExtended")
KINDS = (
    *("ProductRegistered", "ProductRevised", "StockAdded", "StockRemoved", "ItemAdded", "ItemRevised"),
    *(f"{what}{act}" for what in ("Stock", "Item") for act in ACTS),
)


def fill(ledger: Ledger, chance: random.Random, last: str | None) -> None:
    """Draw a history; `last` names the kind of its last fact, None leaves the ledger empty."""
    if last is None:
        return
    begin: list[Command] = [
        PutFungible(sku=STOCK, amount_in_stock=20),
        PutFungible(sku="B", amount_in_stock=9),
        put_item(),
    ]
    for command in [*begin, *drawn(chance)]:
        try:
            ledger.handle(command)
        except LedgerError:
            continue  # refused: that is drawn, too
    free: list[Command] = [AddStock(sku=STOCK, quantity=9), put_item(sold=True), put_item(sold=False)]
    for command in [*free, *ending(last)]:
        if isinstance(command, ExpireReservation):
            time.sleep(1.01)
        ledger.handle(command)
