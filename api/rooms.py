"""The rooms of the API: every business that it serves. Each says in its `room.py` what it brings."""

from typing import Any

from api.http.routes import Route
from api.http.service import CommandCall
from api.openapi.model import Operations
from api.resources.batch import BatchCommands
from api.resources.catalogue.room import CATALOGUE
from api.resources.items.room import ITEMS
from api.resources.reservations.room import RESERVATIONS
from api.resources.stock.room import STOCK
from ledger.commands import Command
from ledger.room import joined

ROOMS = (CATALOGUE, STOCK, ITEMS, RESERVATIONS)

ROUTES: tuple[Route, ...] = tuple(route for room in ROOMS for route in room.routes)
COMMANDS: dict[type[Command], CommandCall] = joined(room.commands for room in ROOMS)
BATCH = BatchCommands([command for room in ROOMS for command in room.batch])
OPERATIONS: Operations = joined(room.operations for room in ROOMS)
EXACTLY: dict[str, Any] = joined([*(room.exactly for room in ROOMS), BATCH.exactly])
