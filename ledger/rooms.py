"""The rooms of the ledger: every business that it knows. Each says in its `room.py` what it brings."""

from ledger.catalogue.room import CATALOGUE
from ledger.items.room import ITEMS
from ledger.reservations.room import RESERVATIONS
from ledger.room import Rooms
from ledger.stock.room import STOCK

ROOMS = Rooms((CATALOGUE, STOCK, ITEMS, RESERVATIONS))
