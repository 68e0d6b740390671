"""Answers that are not one Struct on the wire: pages, entries of the log, health."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import fields

from api.openapi.model import Shape
from api.resources.history import WIRE_NAMES
from ledger.events import EVENTS

_Position = Annotated[int, Meta(ge=0)]
# What the log can hold, as `StockAdded.v1`.
EventName = Annotated[str, Meta(extra_json_schema={"enum": list(EVENTS)})]


class Page(Struct, frozen=True):
    """`items` of that shape, and the cursor of the next page or null."""

    of: Shape


class LogEntry(Struct, frozen=True):
    """An entry of the log; `data` is the event's own members."""

    position: _Position
    recorded_at: datetime
    stream: str
    version: int
    event: EventName
    data: dict[str, Any]


class LogEntries(Struct, frozen=True):
    """`next_after` and `next_digest` are what to ask with next, as `after` and `digest`."""

    items: list[LogEntry]
    next_after: _Position
    next_digest: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class FulfilmentLine(Struct, frozen=True):
    sku: str
    quantity: int | UnsetType = UNSET
    sn: str | UnsetType = UNSET


class FulfilmentRequest(Struct, frozen=True):
    """What was purchased in one go."""

    id: UUID
    position: _Position
    requested_at: datetime
    reservation_id: UUID | None
    owner: str | None
    reference: str | None
    lines: list[FulfilmentLine]


class BatchEntry(Struct, frozen=True):
    """What became of one command: the status and body that its single call would have answered with."""

    status: int
    body: dict[str, Any]
    replayed: bool | UnsetType = UNSET


class BatchAnswer(Struct, frozen=True):
    """In the order of the commands."""

    results: list[BatchEntry]


class Live(Struct, frozen=True):
    status: Literal["live"]


class Statement(Struct, frozen=True):
    """An entry of a statement: its place in the log, and beside it the event's own members."""

    position: _Position
    recorded_at: datetime
    version: int
    event: EventName


def statement_members() -> dict[str, list[Any]]:
    """The types that each member of an event can have, under its wire name."""
    members: dict[str, list[Any]] = {}
    for event in EVENTS.values():
        for field in fields(event):
            types = members.setdefault(WIRE_NAMES.get(field.encode_name, field.encode_name), [])
            if field.type not in types:
                types.append(field.type)
    return members


STATEMENT = Statement
