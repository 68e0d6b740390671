"""The shape of each report's JSON, from the columns that the report itself has."""

from typing import Any

from api.resources.reports import GROUPINGS, REPORTS

_KINDS: dict[str, dict[str, Any]] = {
    "text": {"type": ["string", "null"]},
    "day": {"type": "string", "format": "date"},
    "integer": {"type": ["integer", "null"]},
    "cents": {"type": ["integer", "null"]},
    "ratio": {"type": ["number", "null"]},
}


class _Asked:
    """A query that says no more than what to sum by; no report needs the ledger to know its columns then."""

    def __init__(self, by: str | None) -> None:
        self._by = by

    def get_param(self, name: str) -> str | None:
        return self._by if name == "by" else None


def report_shape(name: str) -> dict[str, Any]:
    """Columns that only some groupings have are not required."""
    make, _ = REPORTS[name]
    groupings = GROUPINGS.get(name, (None,))
    forms = [make(_Asked(names and ",".join(names)), None).columns for names in groupings]  # type: ignore[arg-type]
    columns = {column.name: _KINDS[column.kind] for columns in forms for column in columns}
    always = [name for name in columns if all(any(column.name == name for column in form) for form in forms)]
    return {
        "type": "object",
        "properties": {
            "report": {"const": name},
            "position": {"type": "integer", "minimum": 0},
            "time": {"type": ["string", "null"], "format": "date-time"},
            "lag": {
                "type": "object",
                "properties": {"events": {"type": "integer"}, "seconds": {"type": "number"}},
                "required": ["events", "seconds"],
            },
            "items": {"type": "array", "items": {"type": "object", "properties": columns, "required": always}},
        },
        "required": ["report", "position", "time", "lag", "items"],
    }
