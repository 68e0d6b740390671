"""What is refused of fungible stock."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from ledger.errors import RefusedError


class Shortage(Struct, frozen=True, omit_defaults=True):
    """One line that cannot be had: how much was asked for, how much is free, how much others hold until when."""

    sku: str
    requested: int
    available: int
    held_by_others: int
    sn: str | None = None


class InsufficientStockError(RefusedError):
    """Names every short line, so that a cart can be mended in one go.

    `next_release_at` is filled in by whoever can look it up, keyed by (sku, sn or None): the rule does not know it.
    """

    def __init__(self, shortages: Sequence[Shortage]) -> None:
        first = shortages[0]
        super().__init__(
            f"SKU {first.sku!r}: {first.requested} requested, {first.available} available."
            if len(shortages) == 1
            else f"{len(shortages)} lines are short.",
            sku=first.sku,
            requested=first.requested,
            available=first.available,
        )
        self.shortages = tuple(shortages)
        self.next_release_at: dict[tuple[str, str | None], datetime | None] = {}


class StockLimitError(RefusedError):
    def __init__(self, sku: str, limit: int) -> None:
        super().__init__(f"The stock of SKU {sku!r} would exceed {limit}.", sku=sku, limit=limit)
