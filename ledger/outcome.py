"""What a command left behind. Each room says more of its own: the parts that its callers ask about."""

from msgspec import Struct


class Outcome(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """At log position `position`, right after the command was decided.

    `replayed` when it is the outcome of an earlier request with the same idempotency key.
    """

    position: int
    replayed: bool = False
