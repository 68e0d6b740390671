"""What commands of a batch have in common."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct

from ledger.errors import InvalidError

OwnKey = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"\A[\x21-\x7e]*\Z")]


def refuse_members(intent: Struct, *names: str) -> None:
    """Raises InvalidError for those of the members that the caller gave."""
    bad = {name: "does not belong here" for name in names if getattr(intent, name) is not UNSET}
    if bad:
        raise InvalidError(bad)


def none_of(*names: str) -> dict[str, object]:
    """What a JSON Schema says of members that must not be given."""
    return {"properties": dict.fromkeys(names, False)}
