"""The inline read models: loaded for deciding, and written in the transaction that appends the events."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from uuid import UUID

from ledger.batch import Due, Needs
from ledger.books import Books
from ledger.events import Entry
from ledger.reservations import reservation_of
from ledger.store.connection import Connection
from ledger.streams import parse_stream
from projections import fulfilment_requests, items, products, reservations, stock_levels

# The tables, in the order in which a rebuild compares them.
TABLES = ("products", "stock_levels", "items", "reservations", "reservation_lines", "fulfilment_requests")


class InlineReadModels:
    """Implements `ledger.batch.ReadModels`."""

    def ask(self, conn: Connection, needs: Needs) -> Callable[[Books], None]:
        """Queue the loading; call the result to fill the books. What the books hold already is left as it is."""
        fills: list[Callable[[Books], None]] = []
        if needs.skus:
            fills += [products.ask(conn, needs.skus), stock_levels.ask(conn, needs.skus)]
        held_by = set(needs.reservations)
        if needs.items:
            fills.append(items.ask(conn, needs.items))
            held_by.update(reservations.holders(conn, needs.items))
        if held_by:
            ids = sorted(held_by)
            fills += [f(conn, ids) for f in (reservations.ask, stock_levels.ask_held, items.ask_held)]

        def fill_all(books: Books) -> None:
            for fill in fills:
                fill(books)

        return fill_all

    def save(self, conn: Connection, books: Books, entries: Sequence[Entry]) -> None:
        """Queue writing the state that `entries` changed: one statement per table, whatever their number."""
        touched = {parse_stream(entry.stream) for entry in entries}
        if skus := sorted(sku for family, sku, _ in touched if family == "product"):
            products.save(conn, [p for sku in skus if (p := books.products[sku])])
        if skus := sorted(sku for family, sku, _ in touched if family == "stock"):
            stock_levels.save(conn, [books.stock[sku] for sku in skus])
        if keys := sorted((sku, sn) for family, sku, sn in touched if family == "item"):
            items.save(conn, [item for key in keys if (item := books.items[key])])
        if ids := sorted({held for entry in entries if (held := reservation_of(entry.event))}):
            reservations.save(conn, [r for i in ids if (r := books.reservations[i])])
        fulfilment_requests.save(conn, books, entries)

    def overdue(self, conn: Connection, skus: Collection[str], now: datetime, limit: int) -> list[UUID]:
        return reservations.overdue(conn, skus, now, limit)

    def first_due(self, conn: Connection, skus: Collection[str], but: Collection[UUID]) -> dict[str, Due]:
        return reservations.first_due(conn, skus, but)
