"""Clocks jump: nothing is over before its time by the database, nothing is revived, the log's time never runs back."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from ledger.engine.ledger import Ledger
from ledger.errors import LedgerError
from ledger.reservations.commands import ExpireReservation, Line, MakeReservation, PurchaseReservation
from ledger.reservations.errors import ReservationEndedError
from ledger.stock.commands import AddStock, PutFungible
from ledger.store.connection import Connection
from ledger.store.log import read
from projections.reader import Reader
from projections.reservations import reservations
from tests.chaos.audit import audit
from tests.chaos.clock import Clock
from tests.ledger.given import HOUR, ID, NOW, OTHER_ID, PURCHASE_ID, fungible, given

SECOND = timedelta(seconds=1)


def reserve(reservation_id: UUID, ttl_seconds: int = 60) -> MakeReservation:
    return MakeReservation(
        reservation_id=reservation_id,
        lines=(Line("A", 1),),
        ttl_seconds=ttl_seconds,
        fingerprint="f",
        request_id=f"reserve {reservation_id}",
    )


def purchase(reservation_id: UUID) -> PurchaseReservation:
    return PurchaseReservation(
        reservation_id=reservation_id, purchase_id=PURCHASE_ID, request_id=f"purchase {reservation_id}"
    )


@pytest.fixture
def clock(postgres_url: str, schema: str) -> Clock:
    return Clock(postgres_url, schema)


@pytest.fixture
def ledger(clock: Clock) -> Iterator[Ledger]:
    """With one of A."""
    with clock.ledger() as opened:
        opened.handle(PutFungible(sku="A", amount_in_stock=1, request_id="put"))
        yield opened


@pytest.fixture
def reader(clock: Clock) -> Iterator[Reader]:
    with clock.reader() as opened:
        yield opened


@pytest.fixture
def start(clock: Clock) -> datetime:
    return clock.now()


def test_what_was_written_down_as_over_stays_over_when_the_clock_is_set_back():
    history = given(*fungible("A", 1)).when(reserve(ID))
    history.when(ExpireReservation(reservation_id=ID), at=NOW + timedelta(seconds=60))

    with pytest.raises(ReservationEndedError):
        history.when(purchase(ID), at=NOW)

    assert history.then == []


def test_a_hold_is_not_over_when_the_clock_has_been_set_back_before_it_was_made():
    history = given(*fungible("A", 1)).when(reserve(ID))

    history.when(ExpireReservation(reservation_id=ID), at=NOW - HOUR)

    assert history.then == []


def test_the_log_does_not_run_back_and_a_hold_lasts_as_long_as_asked_by_the_logs_own_time(
    clock: Clock, ledger: Ledger, reader: Reader, conn: Connection, start: datetime
):
    clock.set(start + HOUR)
    ledger.handle(AddStock(sku="A", quantity=1, request_id="add"))
    clock.set(start)

    made = ledger.handle(reserve(ID)).reservation
    clock.set(start + HOUR + 59 * SECOND)
    ledger.handle(purchase(ID))

    assert made is not None
    assert (made.created_at, made.expires_at) == (start + HOUR, start + HOUR + 60 * SECOND)
    times = [entry.recorded_at for entry in read(conn, 0)]
    assert times == [start, start, start + HOUR, start + HOUR, start + HOUR + 59 * SECOND]


@pytest.mark.parametrize("seconds, is_over", [(59, False), (60, True)])
def test_a_clock_that_jumps_ahead_ends_holds_at_their_time_and_not_before(
    clock: Clock, ledger: Ledger, reader: Reader, start: datetime, seconds: int, is_over: bool
):
    ledger.handle(reserve(ID))

    clock.set(start + seconds * SECOND)

    due, _ = reader.read(lambda conn: reservations.due(conn, 10))
    assert due == ([ID] if is_over else [])
    assert _is_refused(ledger, purchase(ID)) == is_over


def test_after_a_jump_ahead_and_back_nothing_is_revived_and_nothing_released_twice(
    postgres_url: str, schema: str, clock: Clock, ledger: Ledger, conn: Connection, start: datetime
):
    ledger.handle(reserve(ID))
    clock.set(start + HOUR)
    ledger.handle(reserve(OTHER_ID))  # takes the only piece, because the first hold is over
    clock.set(start)

    for _ in range(2):
        ledger.handle(ExpireReservation(reservation_id=ID))

    assert _is_refused(ledger, purchase(ID))
    assert not _is_refused(ledger, purchase(OTHER_ID))
    released = [entry for entry in read(conn, 0) if type(entry.event).__name__ == "StockReleased"]
    assert [(entry.event.reservation_id, entry.recorded_at) for entry in released] == [(ID, start + HOUR)]
    assert audit(postgres_url, schema).broken == []


def _is_refused(ledger: Ledger, command: PurchaseReservation) -> bool:
    try:
        ledger.handle(command)
    except LedgerError:
        return True
    return False
