"""How refusals of this room are told: status, slug and title by class of error, and what each says beside its text."""

from collections.abc import Mapping
from typing import Any

from api.resources.reservations.schemas import ShortageAnswer
from ledger.errors import LedgerError
from ledger.stock.errors import InsufficientStockError, StockLimitError

PROBLEMS: Mapping[type[LedgerError], tuple[int, str, str]] = {
    InsufficientStockError: (409, "insufficient-stock", "Not enough is available"),
    StockLimitError: (409, "stock-limit", "The stock would be too large"),
}
MEMBERS: Mapping[str, Mapping[str, Any]] = {
    "insufficient-stock": {"sku": str, "requested": int, "available": int, "shortages": list[ShortageAnswer]},
    "stock-limit": {"sku": str, "limit": int},
}
