"""What the wire Structs of a batch cannot say by themselves."""

from typing import Any


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
