"""What the statements of all read models share."""

from collections.abc import Sequence

import msgspec

# The log position that a query's rows reflect: in the same statement, so in the same snapshot.
HEAD = "(SELECT coalesce(max(notification_id), 0) AS position FROM stored_events)"

_encoder = msgspec.json.Encoder()


def as_json(rows: Sequence[object]) -> str:
    """Rows (structs or dicts) for `json_to_recordset`: one parameter, whatever their number."""
    return _encoder.encode(rows).decode()
