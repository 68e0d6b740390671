"""From what a caller asks of fungible stock to a command, the same for single calls, batches and imports."""

from api.http import requests
from api.http.schemas import ReasonBody
from api.http.service import Common
from api.resources.stock.schemas import FungibleBody
from ledger.catalogue.commands import ProductChanges
from ledger.stock.commands import AddStock, PutFungible, RemoveStock

_PRODUCT = ("name", "description", "color", "unit_price_cents", "shipping_weight_grams")


def put_fungible(body: FungibleBody, sku: str, common: Common) -> PutFungible:
    changes = ProductChanges(**requests.given(body, *_PRODUCT))
    return PutFungible(sku=sku, changes=changes, amount_in_stock=body.amount_in_stock, **common)


def add(body: ReasonBody, sku: str, quantity: int, common: Common) -> AddStock:
    return AddStock(sku=sku, quantity=quantity, reason=body.reason, reference=body.reference, **common)


def remove(body: ReasonBody, sku: str, quantity: int, common: Common) -> RemoveStock:
    return RemoveStock(sku=sku, quantity=quantity, reason=body.reason, reference=body.reference, **common)
