"""Events as the log stores them: JSON bytes under a pinned name, decoded through a closed table, never an import."""

from collections.abc import Sequence
from typing import Any

import msgspec
from eventsourcing.persistence import StoredEvent

from ledger.errors import UnreadableEventError
from ledger.events import EVENTS, NAMES
from ledger.facts import Entry, Event

_encoder = msgspec.json.Encoder()
_decoders = {name: msgspec.json.Decoder(event) for name, event in EVENTS.items()}


def to_stored(entry: Entry) -> StoredEvent:
    return StoredEvent(entry.stream, entry.version, NAMES[type(entry.event)], _encoder.encode(entry.event))


def to_event(name: str, state: bytes) -> Event:
    """Decode an event; raises UnreadableEventError for a name that is not in the table or bytes that do not fit it."""
    decoder = _decoders.get(name)
    if decoder is None:
        raise UnreadableEventError(name, "no event of this version of the service has that name")
    try:
        return decoder.decode(state)
    except (ValueError, RecursionError) as error:  # msgspec's own are ValueErrors, and so is what is no UTF-8
        raise UnreadableEventError(name, str(error)) from error


def to_events_strictly(stored: Sequence[tuple[str, bytes]]) -> list[Event | UnreadableEventError]:
    """Decode many (name, state), each of which must be just the bytes that the event is stored as.

    All of one name are decoded at once, as lines of JSON. If they encode to the same lines, each was one line: JSON as
    we make it holds no line's end. If not, they are looked at one by one.
    """
    by_name: dict[str, list[int]] = {}
    for index, (name, _) in enumerate(stored):
        by_name.setdefault(name, []).append(index)
    events: list[Any] = [None] * len(stored)
    for name, indexes in by_name.items():
        states = [stored[index][1] for index in indexes]
        for index, event in zip(indexes, _decode_all(name, states), strict=True):
            events[index] = event
    return events


def _decode_all(name: str, states: list[bytes]) -> Sequence[Event | UnreadableEventError]:
    if (decoder := _decoders.get(name)) is not None:
        lines = b"\n".join(states) + b"\n"
        try:
            events = decoder.decode_lines(lines)
        except (ValueError, RecursionError):
            events = []
        if len(events) == len(states) and _encoder.encode_lines(events) == lines:
            return events
    return [_decode_strictly(name, state) for state in states]


def _decode_strictly(name: str, state: bytes) -> Event | UnreadableEventError:
    try:
        return to_event_strictly(name, state)
    except UnreadableEventError as error:
        return error


def to_event_strictly(name: str, state: bytes) -> Event:
    """Decode an event whose bytes must be just those that it is stored as: no other member, order or spelling."""
    event = to_event(name, state)
    if _encoder.encode(event) != state:
        raise UnreadableEventError(name, f"it is not stored as {_encoder.encode(event).decode()}")
    return event
