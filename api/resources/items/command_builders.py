"""From what a caller asks of items to a command, the same for single calls, batches and imports."""

import uuid

from api.http import requests
from api.http.service import Common
from api.resources.items.schemas import ItemBody
from ledger.catalogue.commands import ProductChanges
from ledger.items.commands import ItemChanges, PutItem

_ITEMS_PRODUCT = ("name", "description", "shipping_weight_grams")


_ITEM = ("color", "notes", "price_cents")


def put_item(body: ItemBody, sku: str, sn: str, common: Common) -> PutItem:
    return PutItem(
        sku=sku,
        sn=sn,
        purchase_id=uuid.uuid4(),
        product=ProductChanges(**requests.given(body, *_ITEMS_PRODUCT)),
        item=ItemChanges(**requests.given(body, *_ITEM)),
        sold=body.sold,
        **common,
    )
