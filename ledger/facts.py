"""What every fact has in common, and an entry of the log.

The facts themselves are in `events.py` of each room; the closed table of their stored names is `ledger/events.py`.
"""

from datetime import datetime
from typing import Literal

from msgspec import Struct

Cause = Literal["cancelled", "expired"]


# Facts and entries hold no cycles, so the garbage collector need not look at them (gc=False): a quarter of the
# processor time of following the log.
class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Who did it, in which request, and why."""

    actor: str
    request_id: str
    reason: str | None = None
    reference: str | None = None


class Fact(Struct, frozen=True):
    """What a rule decides: an event and the stream it belongs to, not yet in the log."""

    stream: str
    event: Event


class Entry(Struct, frozen=True, gc=False):
    """One line of the log.

    `position` counts the whole log from 1 without gaps, `version` counts the stream from 1; `recorded_at` is the
    database's clock (UTC) under the log's lock and never runs backwards along the log.
    """

    position: int
    recorded_at: datetime
    stream: str
    version: int
    event: Event
