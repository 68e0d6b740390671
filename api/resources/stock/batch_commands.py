"""Commands of a batch on fungible stock."""

from api.http.batch_members import OwnKey
from api.http.schemas import ReasonBody
from ledger.identifiers import Name, Quantity


class Add(ReasonBody, tag_field="command", tag="add", frozen=True, kw_only=True):
    sku: Name
    quantity: Quantity
    idempotency_key: OwnKey | None = None


class Remove(Add, tag_field="command", tag="remove", frozen=True, kw_only=True):
    pass
