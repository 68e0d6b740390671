"""What fungible stock brings to the API."""

from typing import Any

from msgspec import UNSET

from api.access.scopes import Scope
from api.http.routes import Route
from api.http.service import CommandCall
from api.resources import history
from api.resources.stock import fungible
from api.resources.stock.batch_commands import BATCH
from api.resources.stock.operations import FUNGIBLES
from api.resources.stock.schemas import FungibleAnswer
from api.room import Room
from ledger.stock.commands import AddStock, PutFungible, RemoveStock
from ledger.stock.outcomes import StockOutcome


def _product(_command: Any, outcome: StockOutcome) -> tuple[int, FungibleAnswer]:
    return 200, FungibleAnswer.of(outcome.product, outcome.stock)


def _scopes_of_put(command: PutFungible) -> tuple[Scope, ...]:
    """Describing a product is one thing, saying what there is of it another."""
    return ("catalog:write",) if command.amount_in_stock is UNSET else ("catalog:write", "stock:write")


STOCK = Room(
    name="stock",
    routes=(
        Route("/api/fungible", fungible.Products, get="read", post="catalog:write"),
        Route("/api/fungible/{sku}", fungible.Product, get="read", put="catalog:write"),
        Route("/api/fungible/{sku}/add/{quantity_text}", fungible.Add, post="stock:write"),
        Route("/api/fungible/{sku}/remove/{quantity_text}", fungible.Remove, post="stock:write"),
        Route("/api/fungible/{sku}/reserve/{quantity_text}", fungible.Reserve, post="reservations:write"),
        Route("/api/fungible/{sku}/history", history.FungibleHistory, get="audit:read"),
    ),
    commands={
        PutFungible: CommandCall(_scopes_of_put, _product),
        AddStock: CommandCall(lambda _: ("stock:write",), _product),
        RemoveStock: CommandCall(lambda _: ("stock:write",), _product),
    },
    batch=BATCH,
    operations=FUNGIBLES,
)
