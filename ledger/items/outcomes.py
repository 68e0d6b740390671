"""What commands on items leave behind."""

from ledger.catalogue.products import Product
from ledger.items.items import Item
from ledger.outcome import Outcome


class ItemOutcome(Outcome, frozen=True, kw_only=True):
    product: Product
    item: Item
