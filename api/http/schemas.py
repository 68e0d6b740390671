"""What bodies of all businesses have in common. Those of each are in `schemas.py` of its room."""

from msgspec import Struct

from ledger.identifiers import Text


class Body(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Members that a caller leaves out are unset; null clears a text."""


class ReasonBody(Body, frozen=True, kw_only=True):
    reason: Text | None = None
    reference: Text | None = None
