"""What items bring to the API."""

from typing import Any

from msgspec import UNSET

from api.access.scopes import Scope
from api.http.routes import Route
from api.http.service import CommandCall
from api.resources import history
from api.resources.items import non_fungible
from api.resources.items.operations import NON_FUNGIBLES
from api.resources.items.schemas import ItemAnswer
from api.room import Room
from ledger.items.commands import PutItem
from ledger.items.outcomes import ItemOutcome


def item(_command: Any, outcome: ItemOutcome) -> tuple[int, ItemAnswer]:
    return 200, ItemAnswer.of(outcome.product, outcome.item)


def _scopes_of_put(command: PutItem) -> tuple[Scope, ...]:
    """Describing an item is one thing, saying that it is sold another."""
    return ("catalog:write",) if command.sold is UNSET else ("catalog:write", "stock:write")


ITEMS = Room(
    name="items",
    routes=(
        Route("/api/non-fungible", non_fungible.Products, get="read"),
        Route("/api/non-fungible/{sku}", non_fungible.Product, get="read"),
        Route("/api/non-fungible/{sku}/{sn}", non_fungible.Item, get="read", put="catalog:write"),
        Route(
            "/api/non-fungible/{sku}/{sn}/reservation",
            non_fungible.ItemReservation,
            put="reservations:write",
            delete="reservations:write",
        ),
        Route("/api/non-fungible/{sku}/{sn}/history", history.ItemHistory, get="audit:read"),
    ),
    commands={PutItem: CommandCall(_scopes_of_put, item)},
    operations=NON_FUNGIBLES,
)
