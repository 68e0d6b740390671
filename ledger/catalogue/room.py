"""What the catalogue brings: products of both kinds. They are put by commands on what there is of them."""

from ledger.catalogue.events import FACTS
from ledger.catalogue.products import PRODUCTS
from ledger.room import Room

CATALOGUE = Room(name="catalogue", facts=FACTS, states=(PRODUCTS,))
