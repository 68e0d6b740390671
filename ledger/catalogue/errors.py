"""What is refused about products."""

from ledger.errors import RefusedError, UnknownError


class UnknownProductError(UnknownError):
    def __init__(self, sku: str) -> None:
        super().__init__(f"There is no product with SKU {sku!r}.", sku=sku)


class OtherKindError(RefusedError):
    def __init__(self, sku: str, kind: str) -> None:
        super().__init__(f"SKU {sku!r} is a {kind} product.", sku=sku, kind=kind)
