"""What a migration fills in of a database that was in use is what the log says."""

import time
from uuid import UUID

from ledger.engine.ledger import Ledger
from ledger.reservations.commands import ExpireReservation, Line, ReleaseReservation
from ledger.store.connection import Connection
from ledger.store.migrate import migrate
from tests.projections.test_read_models import VARIED_HISTORY, R, cart, given, rebuilt, tables

MIXED = UUID(int=9)


def test_how_much_of_a_line_expired_is_taken_from_the_log(
    ledger: Ledger, conn: Connection, postgres_url: str, schema: str
):
    given(
        ledger,
        *VARIED_HISTORY,
        cart(MIXED, Line("A", 3), ttl_seconds=1),
        ReleaseReservation(reservation_id=MIXED, lines=(Line("A", 1),), **R),
    )
    time.sleep(1.05)
    given(ledger, ExpireReservation(reservation_id=MIXED, **R))
    conn.execute("ALTER TABLE reservation_lines DROP COLUMN expired CASCADE")
    conn.execute("DELETE FROM schema_migrations WHERE version = 13")

    assert migrate(postgres_url, schema) == ["0013_expired_lines.sql"]

    assert tables(conn) == rebuilt(postgres_url, schema)
    assert conn.execute("SELECT sum(expired) FROM reservation_lines").fetchone() == (
        1 + 2,
    )  # of an item, and of what a cart had left
