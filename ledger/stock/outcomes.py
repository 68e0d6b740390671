"""What commands on fungible stock leave behind."""

from ledger.catalogue.products import Product
from ledger.outcome import Outcome
from ledger.stock.levels import Stock


class StockOutcome(Outcome, frozen=True, kw_only=True):
    product: Product
    stock: Stock
