"""What a business brings to the API, said in one place. `api/rooms.py` lists the rooms and joins their tables."""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from api.http.routes import Route
from api.http.service import CommandCall, Common, Service
from api.openapi.model import Operations
from ledger.commands import Command


class BatchCommand(Struct, frozen=True):
    """A command as POST /api/batch takes it.

    `shape` is a Struct whose tag, under `command`, is its name; `build` makes the command of one, or raises
    InvalidError. `exactly` is what a JSON Schema has to say beyond the Struct.
    """

    shape: type[Struct]
    build: Callable[[Service, Any, Common], Command]
    exactly: Mapping[str, Any] = {}


class Room(Struct, frozen=True, kw_only=True):
    """`commands` by class; `operations` describe each method of each route; `exactly` as in BatchCommand, by schema.

    Its problems are in its `problems.py`, which `api/http/problems.py` puts together: error handlers know no rooms.
    """

    name: str
    routes: tuple[Route, ...] = ()
    commands: Mapping[type[Command], CommandCall] = {}
    batch: tuple[BatchCommand, ...] = ()
    operations: Operations = {}
    exactly: Mapping[str, Mapping[str, Any]] = {}
