"""What is refused of items."""

from datetime import datetime

from ledger.errors import RefusedError, UnknownError


class UnknownItemError(UnknownError):
    def __init__(self, sku: str, sn: str) -> None:
        super().__init__(f"There is no item {sn!r} of SKU {sku!r}.", sku=sku, sn=sn)


class ItemHeldError(RefusedError):
    def __init__(self, sku: str, sn: str, reserved_until: datetime) -> None:
        super().__init__(
            f"Item {sn!r} of SKU {sku!r} is already reserved.", sku=sku, sn=sn, reserved_until=reserved_until
        )


class ItemSoldError(RefusedError):
    def __init__(self, sku: str, sn: str) -> None:
        super().__init__(f"Item {sn!r} of SKU {sku!r} is already sold.", sku=sku, sn=sn)
