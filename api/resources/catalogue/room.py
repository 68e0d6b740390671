"""What the catalogue brings to the API: so far the command of a batch that puts a product of either kind."""

from api.resources.catalogue.batch_commands import BATCH
from api.room import Room

CATALOGUE = Room(name="catalogue", batch=BATCH)
