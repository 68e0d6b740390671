"""The closed table of stored names, put together from the rooms: every fact that history may hold.

Facts are never changed, only added to: a new shape of one gets a new name (`StockAdded.v2`) beside the old one, never a
changed class under the old name. tests/ledger/stored_events.jsonl holds a sample of each that must decode for ever.
"""

from ledger.catalogue import events as catalogue
from ledger.facts import Event
from ledger.items import events as items
from ledger.stock import events as stock

# The order is that of the tables in the rooms; nothing depends on it.
EVENTS: dict[str, type[Event]] = {**catalogue.FACTS, **stock.FACTS, **items.FACTS}
NAMES: dict[type[Event], str] = {event: name for name, event in EVENTS.items()}
