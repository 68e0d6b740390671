"""What facts make of a product: given a product and a fact, then exactly this product."""

import pytest
from msgspec import structs

from ledger.catalogue.events import ProductRegistered, ProductRevised
from ledger.catalogue.products import Product, evolve
from ledger.facts import Entry, Event
from ledger.stock.events import StockAdded
from tests.ledger.given import BY, HOUR, NOW

PENCIL = Product("A", "fungible", "Pencil", None, "Yellow", 120, 8, 1, NOW, NOW)


def entry(event: Event, version: int) -> Entry:
    return Entry(7, NOW + HOUR, "product/A", version, event)


def test_a_product_is_what_it_was_registered_as():
    event = ProductRegistered(
        kind="fungible", name="Pencil", color="Yellow", unit_price_cents=120, shipping_weight_grams=8, **BY
    )

    registered = evolve(None, entry(event, 1))

    assert registered == structs.replace(PENCIL, registered_at=NOW + HOUR, updated_at=NOW + HOUR)


def test_a_revision_changes_what_it_holds_and_nothing_else():
    revised = evolve(PENCIL, entry(ProductRevised(color=None, unit_price_cents=0, **BY), 2))

    assert revised == structs.replace(PENCIL, color=None, unit_price_cents=0, version=2, updated_at=NOW + HOUR)


@pytest.mark.parametrize(
    ("product", "event"),
    [(None, ProductRevised(name="x", **BY)), (PENCIL, StockAdded(quantity=1, on_hand=1, reserved=0, **BY))],
)
def test_what_is_no_fact_of_a_product_is_a_defect(product: Product | None, event: Event):
    with pytest.raises(TypeError, match="not a fact of product product/A"):
        evolve(product, entry(event, 2))
