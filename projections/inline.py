"""The inline read models: loaded for deciding, and written in the transaction that appends the events."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from uuid import UUID

from ledger.engine.batch import Due, Needs
from ledger.facts import Entry
from ledger.reservations.reservations import reservation_of
from ledger.store.connection import BoundedConnection
from ledger.store.roundtrip import RoundTrip
from ledger.streams import parse_stream
from ledger.unit_of_work import UnitOfWork
from projections.catalogue import products
from projections.fulfilment import fulfilment_requests
from projections.items import items
from projections.reservations import reservations
from projections.rows import Named
from projections.stock import stock_levels

# The read models and their tables, in the order in which a rebuild compares them.
MODELS = {
    "products": ("products",),
    "stock_levels": ("stock_levels",),
    "items": ("items",),
    "reservations": ("reservations", "reservation_lines"),
    "fulfilment_requests": ("fulfilment_requests",),
}
TABLES = tuple(table for tables in MODELS.values() for table in tables)


class InlineReadModels:
    """Implements `ledger.engine.batch.ReadModels`."""

    def ask(self, trip: RoundTrip, needs: Needs) -> Callable[[UnitOfWork], None]:
        """Ask for state; call the result to fill the books. What the books hold already is left as it is."""
        fills: list[Callable[[UnitOfWork], None]] = []
        if needs.skus:
            fills += [products.ask(trip, needs.skus), stock_levels.ask(trip, needs.skus)]
        if needs.items:
            fills.append(items.ask(trip, needs.items))
        if needs.items or needs.reservations:
            keys = sorted(needs.items)
            named = Named(sorted(needs.reservations), [sku for sku, _ in keys], [sn for _, sn in keys])
            fills += [f(trip, named) for f in (reservations.ask, stock_levels.ask_held, items.ask_held)]

        def fill_all(work: UnitOfWork) -> None:
            for fill in fills:
                fill(work)

        return fill_all

    def save(self, trip: RoundTrip, work: UnitOfWork, entries: Sequence[Entry]) -> None:
        """Ask for the state that `entries` changed to be written: one statement per table, whatever their number."""
        touched = {parse_stream(entry.stream) for entry in entries}
        if skus := sorted(sku for family, sku, _ in touched if family == "product"):
            products.save(trip, [p for sku in skus if (p := work.products[sku])])
        if skus := sorted(sku for family, sku, _ in touched if family == "stock"):
            stock_levels.save(trip, [work.stock[sku] for sku in skus])
        if keys := sorted((sku, sn) for family, sku, sn in touched if family == "item"):
            items.save(trip, [item for key in keys if (item := work.items[key])])
        if ids := sorted({held for entry in entries if (held := reservation_of(entry.event))}):
            reservations.save(trip, [r for i in ids if (r := work.reservations[i])])
        fulfilment_requests.save(trip, work, entries)

    def overdue(self, conn: BoundedConnection, skus: Collection[str], now: datetime, limit: int) -> list[UUID]:
        return reservations.overdue(conn, skus, now, limit)

    def first_due(self, conn: BoundedConnection, skus: Collection[str], but: Collection[UUID]) -> dict[str, Due]:
        return reservations.first_due(conn, skus, but)
