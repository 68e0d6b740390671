"""The inline read models: loaded for deciding, and written in the transaction that appends the events."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from uuid import UUID

from ledger.facts import Entry
from ledger.reservations.shortfall import Due
from ledger.room import Demand
from ledger.state import Keys
from ledger.store.connection import BoundedConnection
from ledger.store.roundtrip import RoundTrip
from ledger.unit_of_work import UnitOfWork
from projections.catalogue import products
from projections.fulfilment import fulfilment_requests
from projections.items import items
from projections.model import InlineModel
from projections.reservations import reservations
from projections.reservations.refused_demand import RefusedDemand
from projections.stock import stock_levels

# In the order in which a rebuild compares them.
MODELS: tuple[InlineModel, ...] = (
    products.MODEL,
    stock_levels.MODEL,
    items.MODEL,
    reservations.MODEL,
    fulfilment_requests.MODEL,
)
NAMES = tuple(model.name for model in MODELS)
TABLES = tuple(table for model in MODELS for table in model.tables)


class InlineReadModels:
    """Implements `ledger.room.ReadModels`, and what the rooms ask of it besides."""

    def ask(self, trip: RoundTrip, needs: Keys) -> Callable[[UnitOfWork], None]:
        """Ask for state; call the result to fill the unit of work. What it holds already is left as it is."""
        fills = [fill for model in MODELS for fill in model.ask(trip, needs)]

        def fill_all(work: UnitOfWork) -> None:
            for fill in fills:
                fill(work)

        return fill_all

    def save(self, trip: RoundTrip, work: UnitOfWork, entries: Sequence[Entry]) -> None:
        """Ask for the state that `entries` changed to be written: one statement per table, whatever their number."""
        changed = work.changed(entries)
        for model in MODELS:
            model.save(trip, work, changed, entries)

    def demand(self) -> Demand:
        return RefusedDemand()

    def overdue(self, conn: BoundedConnection, skus: Collection[str], now: datetime, limit: int) -> list[UUID]:
        return reservations.overdue(conn, skus, now, limit)

    def first_due(self, conn: BoundedConnection, skus: Collection[str], but: Collection[UUID]) -> dict[str, Due]:
        return reservations.first_due(conn, skus, but)
