"""How refusals of this room are told: status, slug and title by class of error, and what each says beside its text."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ledger.errors import LedgerError
from ledger.items.errors import ItemHeldError, ItemSoldError, UnknownItemError

PROBLEMS: Mapping[type[LedgerError], tuple[int, str, str]] = {
    UnknownItemError: (404, "unknown-item", "No such item"),
    ItemHeldError: (409, "already-reserved", "The item is already reserved"),
    ItemSoldError: (409, "already-sold", "The item is already sold"),
}
MEMBERS: Mapping[str, Mapping[str, Any]] = {
    "unknown-item": {"sku": str, "sn": str},
    "already-reserved": {"sku": str, "sn": str, "reserved_until": datetime},
    "already-sold": {"sku": str, "sn": str},
}
