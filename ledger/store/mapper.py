"""Events as the log stores them: JSON bytes under a pinned name, decoded through a closed table, never an import."""

import msgspec
from eventsourcing.persistence import StoredEvent

from ledger.errors import UnreadableEventError
from ledger.events import EVENTS, NAMES, Entry, Event

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


def to_event_strictly(name: str, state: bytes) -> Event:
    """The same, and the bytes must be just those that the event is stored as: no other member, order or spelling."""
    event = to_event(name, state)
    if _encoder.encode(event) != state:
        raise UnreadableEventError(name, f"it is not stored as {_encoder.encode(event).decode()}")
    return event
