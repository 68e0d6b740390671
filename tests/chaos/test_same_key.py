"""One cart, sent many times at once with one key, is one reservation, and everybody is told the same."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from ledger.reservations.commands import Line, MakeReservation
from ledger.stock.commands import AddStock
from tests.chaos.audit import audit
from tests.chaos.callers import ITEMS, SKUS, stock_the_shop
from tests.chaos.calls import call_of, transfer
from tests.chaos.notes import Note
from tests.chaos.service import Service
from tests.chaos.wire import Direct

TIMES = 50
CART = call_of(
    MakeReservation(
        reservation_id=UUID("00000000-0000-4000-8000-000000000001"),
        lines=(Line(SKUS[0], 2), Line(SKUS[1], 1), Line(ITEMS[0][0], 1, ITEMS[0][1])),
        ttl_seconds=60,
    )
)


@pytest.fixture
def service(folder: Path, postgres_url: str, schema: str) -> Iterator[Service]:
    with Service(folder, workers=2, DATABASE_URL=postgres_url, STOCKLEDGER_SCHEMA=schema) as started:
        yield started


@pytest.mark.parametrize("own_id", [True, False], ids=["with an id of its own", "with a generated id"])
def test_the_same_cart_fifty_times_at_once_is_one_reservation_with_fifty_equal_answers(
    postgres_url: str, schema: str, service: Service, own_id: bool
):
    body = {k: v for k, v in CART.body.items() if own_id or k != "reservation_id"}
    note = Note(0, CART._replace(body=body, entries=3), "cart")
    stock_the_shop(service.wire())
    at_once = threading.Barrier(TIMES)

    def send() -> None:
        with closing(service.wire()) as wire:
            at_once.wait()
            note.attempts.append(wire.send(note.call, note.key))

    callers = [threading.Thread(target=send) for _ in range(TIMES)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert [attempt.status for attempt in note.attempts] == [201] * TIMES
    assert all((a.body, a.position) == (note.attempts[0].body, note.attempts[0].position) for a in note.attempts)
    assert [attempt.replayed for attempt in note.attempts].count(True) == TIMES - 1
    report = audit(postgres_url, schema)
    assert len([row for row in report.rows if row.topic in ("StockReserved.v1", "ItemReserved.v1")]) == 3
    assert report.broken == []


def test_a_key_that_came_with_a_batch_is_refused_with_another_request(direct: Direct, stocked: list[Note]):
    assert direct.send(transfer(1, *SKUS), "k").status == 200

    answer = direct.send(call_of(AddStock(sku=SKUS[0], quantity=1)), "k")

    assert (answer.status, answer.slug) == (422, "idempotency-key-reused")
