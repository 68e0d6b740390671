"""Shoppers: carts of many products, bought, given back, extended or left, while stock comes and prices change."""

import random
import uuid
from collections.abc import Sequence

from ledger.catalogue.commands import ProductChanges
from ledger.commands import Command
from ledger.engine.ledger import Ledger
from ledger.errors import LedgerError, UnavailableError
from ledger.reservations.commands import (
    ExtendReservation,
    Line,
    MakeReservation,
    PurchaseReservation,
    ReleaseReservation,
    ReturnPurchase,
)
from ledger.reservations.reservations import summed
from ledger.rooms import ROOMS
from ledger.stock.commands import AddStock, PutFungible, RemoveStock
from projections.inline import InlineReadModels


class Shopper:
    """One caller among others, with so many wishes at once; `seed` decides what it wants."""

    def __init__(self, ledger: Ledger, skus: Sequence[str], seed: int, batch: int = 60) -> None:
        self._ledger = ledger
        self._skus = skus
        self._batch = batch
        self._random = random.Random(seed)
        self._held: list[MakeReservation] = []
        self._bought: list[MakeReservation] = []

    def shop(self, until: int) -> None:
        """Go on until the log has at least so many entries."""
        position = 0
        while position < until:
            # The further the log has come, the more products there are.
            known = self._skus[: max(2, len(self._skus) * max(1, position * 2) // until)]
            try:
                results = self._ledger.handle_many([self._wish(known) for _ in range(self._batch)])
            except UnavailableError:  # others were faster; whatever became of it, the log will say
                continue
            for result in results:
                if not isinstance(result, LedgerError):
                    position = max(position, result.position)

    def _wish(self, skus: Sequence[str]) -> Command:
        pick, request_id = self._random.random(), uuid.UUID(int=self._random.getrandbits(128)).hex
        sku = self._random.choice(skus)
        if pick < 0.4:
            return self._cart(skus, request_id)
        if pick < 0.6 and self._held:
            cart = self._held.pop(self._random.randrange(len(self._held)))
            self._bought.append(cart)
            purchase_id = uuid.UUID(int=self._random.getrandbits(128))
            return PurchaseReservation(
                reservation_id=cart.reservation_id, purchase_id=purchase_id, request_id=request_id
            )
        if pick < 0.7 and self._held:
            cart = self._held.pop(self._random.randrange(len(self._held)))
            return ReleaseReservation(reservation_id=cart.reservation_id, request_id=request_id)
        if pick < 0.75 and self._held:
            cart = self._random.choice(self._held)
            return ExtendReservation(reservation_id=cart.reservation_id, ttl_seconds=900, request_id=request_id)
        if pick < 0.78 and self._bought:
            cart = self._bought.pop(self._random.randrange(len(self._bought)))
            return ReturnPurchase(reservation_id=cart.reservation_id, lines=cart.lines[:1], request_id=request_id)
        if pick < 0.82:
            changes = ProductChanges(unit_price_cents=self._random.randrange(10_000), color=request_id[:3] or None)
            return PutFungible(sku=sku, changes=changes, request_id=request_id)
        if pick < 0.86:
            return RemoveStock(sku=sku, quantity=self._random.randrange(1, 30), request_id=request_id)
        return AddStock(sku=sku, quantity=self._random.randrange(1, 200), request_id=request_id)

    def _cart(self, skus: Sequence[str], request_id: str) -> MakeReservation:
        wanted = [
            Line(self._random.choice(skus), self._random.randrange(1, 6)) for _ in range(self._random.randrange(1, 9))
        ]
        cart = MakeReservation(
            reservation_id=uuid.UUID(int=self._random.getrandbits(128)),
            lines=summed(wanted),
            ttl_seconds=self._random.choice((1, 2, 600, 3600)),
            request_id=request_id,
            cart=True,
        )
        self._held.append(cart)
        return cart


def shop_alone(url: str, schema: str, skus: Sequence[str], seed: int, until: int, batch: int) -> None:
    """A shopper that is all its process does."""
    ledger = Ledger(url, schema, ROOMS, InlineReadModels())
    try:
        Shopper(ledger, skus, seed, batch).shop(until)
    finally:
        ledger.close()
