"""How refusals of this room are told: status, slug and title by class of error, and what each says beside its text."""

from collections.abc import Mapping
from typing import Any

from ledger.catalogue.errors import OtherKindError, UnknownProductError
from ledger.catalogue.events import Kind
from ledger.errors import LedgerError

PROBLEMS: Mapping[type[LedgerError], tuple[int, str, str]] = {
    UnknownProductError: (404, "unknown-product", "No such product"),
    OtherKindError: (409, "other-kind", "The product is of the other kind"),
}
MEMBERS: Mapping[str, Mapping[str, Any]] = {
    "unknown-product": {"sku": str},
    "other-kind": {"sku": str, "kind": Kind},
}
