"""What the wire Structs cannot say by themselves: members that need or exclude each other."""

from typing import Any

_LINE = [
    {"required": ["quantity"], "properties": {"sn": False}},
    {"required": ["sn"], "properties": {"quantity": {"const": 1}}},
]


def _none_of(*names: str) -> dict[str, Any]:
    return {"properties": dict.fromkeys(names, False)}


# To be added to the component of that name.
EXACTLY: dict[str, dict[str, Any]] = {
    "LineBody": {"anyOf": _LINE},
    "Reserve": {
        "anyOf": [
            {"required": ["lines"], **_none_of("sku", "sn", "quantity")},
            {"required": ["sku", "quantity"], **_none_of("lines", "sn", "partial")},
            {"required": ["sku", "sn"], **_none_of("lines", "quantity", "partial")},
        ]
    },
    "Release": {
        "anyOf": [
            {"required": ["reservation_id"], **_none_of("sku", "sn")},
            {"required": ["sku", "sn"], **_none_of("reservation_id", "lines")},
        ]
    },
    "Put": {
        "anyOf": [
            {"required": ["sn"], **_none_of("amount_in_stock", "unit_price_cents")},
            _none_of("sn", "notes", "price_cents", "sold"),
        ]
    },
}


def batch_body(body: dict[str, Any], command: dict[str, Any]) -> dict[str, Any]:
    """In mode `all` every command has to be one; in mode `each` what is none is answered with a 422 in its place."""
    properties = body["properties"]
    lenient = {"anyOf": [command, {"description": "Anything else is answered with 422, in its place."}]}
    forms = [
        {
            **body,
            "title": f"Mode {mode}",
            "properties": {
                "mode": {"type": "string", "const": mode},
                "commands": properties["commands"] | {"items": items},
            },
            "required": required,
        }
        for mode, items, required in (("each", lenient, ["commands"]), ("all", command, ["mode", "commands"]))
    ]
    return {"title": body["title"], "description": "`mode` is `each` if left out.", "anyOf": forms}
