"""Answers that many calls describe alike."""

from typing import Any

from api.openapi import shapes
from api.openapi.model import JSON, Answer, Parameter
from api.openapi.parameters import CONDITIONAL
from ledger.catalogue.errors import OtherKindError, UnknownProductError

WRITTEN = ("Ledger-Position", "ETag", "Idempotent-Replayed")


# Every path below takes what is not its kind for the other family's.
UNKNOWN = (UnknownProductError, OtherKindError)


def state(shape: Any, example: Any) -> dict[int, Answer]:
    """What a GET of one thing answers; of a past state there is the Cache-Control too."""
    headers = ("Ledger-Position", "ETag", "Cache-Control")
    found = Answer(text="As it is, or was.", content={JSON: shape}, headers=headers, example=example)
    return {200: found, 304: Answer(text="It still has that version.", headers=headers)}


def page(shape: Any) -> dict[int, Answer]:
    return {200: Answer(text="A page.", content={JSON: shapes.Page(shape)}, headers=("Ledger-Position",))}


def write(*path: Parameter) -> tuple[Parameter, ...]:
    return (*path, *CONDITIONAL)
