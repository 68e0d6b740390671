"""Members that commands of a batch have in common."""

from typing import Annotated

from msgspec import UNSET, Meta

from api.resources.batch import Intent
from ledger.errors import InvalidError

OwnKey = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"\A[\x21-\x7e]*\Z")]


def _refuse(intent: Intent, *names: str) -> None:
    bad = {name: "does not belong here" for name in names if getattr(intent, name) is not UNSET}
    if bad:
        raise InvalidError(bad)
