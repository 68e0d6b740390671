"""The checker itself: it finds nothing wrong with a true history, and each untruth that is put into one."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from ledger.stock.commands import AddStock
from tests.chaos import notes as written
from tests.chaos.audit import audit
from tests.chaos.calls import Call, call_of
from tests.chaos.fold import Fold, Row
from tests.chaos.notes import Attempt, Note
from tests.chaos.seen import Seen, differences

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ADD = call_of(AddStock(sku="A", quantity=5))
UNTIL = "2026-11-22T10:01:00Z"

# Second, stream, event, data; positions and versions are counted.
Fact = tuple[int, str, str, dict[str, Any]]


def stock(second: int, name: str, quantity: int, on_hand: int, reserved: int, **more: Any) -> Fact:
    return second, "stock/main/A", name, {"quantity": quantity, "on_hand": on_hand, "reserved": reserved, **more}


def item(second: int, name: str, **more: Any) -> Fact:
    return second, "item/N/1", name, more


MADE = [(0, "product/A", "ProductRegistered", {"kind": "fungible"}), stock(0, "StockAdded", 5, 5, 0)]
HELD = [*MADE, stock(1, "StockReserved", 3, 5, 3, reservation_id="r", expires_at=UNTIL)]
BOUGHT = [*HELD, stock(2, "StockPurchased", 3, 2, 0, reservation_id="r", purchase_id="p")]
PIECE = [(0, "product/N", "ProductRegistered", {"kind": "non-fungible"}), item(0, "ItemAdded")]
PIECE_HELD = [*PIECE, item(1, "ItemReserved", reservation_id="r", expires_at=UNTIL)]


EXPIRED = [*HELD, stock(61, "StockReleased", 3, 5, 0, reservation_id="r", cause="expired")]
LATER = "2026-11-22T10:09:00Z"
AGAIN = [
    *EXPIRED,
    stock(70, "StockReserved", 3, 5, 3, reservation_id="r", expires_at=LATER, again=True),
    stock(70, "StockPurchased", 3, 2, 0, reservation_id="r", purchase_id="p"),
]


def history(facts: Sequence[Fact]) -> list[Row]:
    versions: dict[str, int] = {}
    rows = []
    for position, (second, stream, name, data) in enumerate(facts, 1):
        versions[stream] = versions.get(stream, 0) + 1
        at = START + timedelta(seconds=second)
        rows.append(Row(position, at, stream, versions[stream], f"{name}.v1", {"request_id": f"q{position}", **data}))
    return rows


def fold(rows: Sequence[Row]) -> Fold:
    folded = Fold()
    for row in rows:
        folded.apply(row)
    return folded


def of_r(second: int, name: str, quantity: int, on_hand: int, reserved: int, **more: Any) -> Fact:
    return stock(second, name, quantity, on_hand, reserved, reservation_id="r", **more)


@pytest.mark.parametrize(
    "facts",
    [
        [
            *HELD,
            of_r(2, "StockReleased", 1, 5, 2, cause="cancelled"),
            of_r(61, "StockReleased", 2, 5, 0, cause="expired"),
        ],
        [*HELD, of_r(59, "StockReservationExtended", 3, 5, 3, expires_at="2026-11-22T10:02:00Z")],
        [*HELD, of_r(2, "StockReserved", 1, 5, 4, expires_at=UNTIL)],
        [*BOUGHT, of_r(99, "StockReturned", 2, 4, 0)],
        [
            *PIECE_HELD,
            item(2, "ItemPurchased", reservation_id="r", purchase_id="p"),
            item(3, "ItemReturned", reservation_id="r"),
        ],
        [*PIECE_HELD, item(60, "ItemReleased", reservation_id="r", cause="expired")],
        AGAIN,
    ],
)
def test_a_true_history_is_found_true(facts: list[Fact]):
    assert fold(history(facts)).broken == []


@pytest.mark.parametrize(
    "facts, sentence",
    [
        ([*MADE, stock(1, "StockAdded", 5, 9, 0)], "does not follow"),
        ([*MADE, of_r(1, "StockReserved", 6, 5, 6, expires_at=UNTIL)], "oversold: 6 reserved of 5"),
        ([*MADE, of_r(1, "StockReserved", 1, 5, 1, expires_at="2026-11-22T10:00:01Z")], "over before it began"),
        ([*HELD, of_r(1, "StockReserved", 1, 5, 4, expires_at="2026-11-22T10:02:00Z")], "until another time"),
        ([*HELD, of_r(1, "StockReserved", 1, 5, 4, expires_at=UNTIL, owner="eve")], "held for another"),
        ([*BOUGHT, of_r(3, "StockReserved", 1, 2, 1, expires_at=UNTIL)], "after the end: purchased"),
        ([*HELD, of_r(2, "StockReleased", 4, 5, -1, cause="cancelled")], "more than the 3 held"),
        ([*HELD, of_r(59, "StockReleased", 3, 5, 0, cause="expired")], "over at"),
        ([*HELD, of_r(60, "StockReleased", 3, 5, 0, cause="cancelled")], "over at"),
        ([*HELD, of_r(60, "StockReleased", 1, 5, 2, cause="expired")], "expired in part"),
        ([*HELD, of_r(60, "StockPurchased", 3, 2, 0, purchase_id="p")], "over at"),
        ([*HELD, of_r(60, "StockReservationExtended", 3, 5, 3, expires_at="2026-11-22T11:00:00Z")], "over at"),
        ([*BOUGHT, of_r(3, "StockReleased", 1, 2, -1, cause="cancelled")], "after the reservation's end"),
        ([*BOUGHT, of_r(3, "StockReturned", 4, 6, 0)], "more returned than purchased"),
        ([*MADE, of_r(1, "StockReleased", 1, 5, -1, cause="cancelled")], "does not hold it"),
        ([*PIECE_HELD, item(2, "ItemReserved", reservation_id="s", expires_at=UNTIL)], "though sold or held"),
        ([*PIECE_HELD, item(2, "ItemPurchased", purchase_id="p")], "held by r"),
        ([*PIECE, item(1, "ItemReturned")], "sold under"),
        ([item(0, "ItemAdded")], "not a non-fungible product"),
        ([*MADE, (1, "product/A", "ProductRegistered", {"kind": "fungible"})], "registered once"),
        ([*EXPIRED, of_r(70, "StockReserved", 2, 5, 2, expires_at=LATER, again=True)], "2 held again of 3"),
        ([*HELD, of_r(2, "StockReserved", 1, 5, 4, expires_at=LATER, again=True)], "held again after another end"),
        ([*MADE, of_r(2, "StockReserved", 1, 5, 1, expires_at=LATER, again=True)], "held again though it never was"),
    ],
)
def test_an_untrue_fact_is_found(facts: list[Fact], sentence: str):
    broken = fold(history(facts)).broken

    assert any(sentence in found for found in broken)
    assert all(found.startswith(f"position {len(facts)}, ") for found in broken)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"position": 4}, "follows position 2"),
        ({"version": 3}, "version 3 is out of turn"),
        ({"recorded_at": START - timedelta(seconds=1)}, "recorded before"),
    ],
)
def test_an_entry_out_of_its_place_is_found(change: dict[str, Any], sentence: str):
    *others, last = history(HELD)

    broken = fold([*others, last._replace(**change)]).broken

    assert any(sentence in found for found in broken)


def attempt(request_id: str, status: int, position: int | None = None, sent: float = 1.0, slug: str = "") -> Attempt:
    answered = None if status == 0 else sent + 0.5
    return Attempt(request_id, sent, answered, status, slug, position, retry_after="1" if status == 503 else None)


TWICE = [*MADE, stock(1, "StockAdded", 5, 10, 0), stock(2, "StockAdded", 5, 15, 0)]


@pytest.mark.parametrize(
    "attempts, sentence",
    [
        ([attempt("q9", 200, 9)], "was acknowledged and is not recorded: q9"),
        ([attempt("q3", 409, 3)], "was told 409  and is recorded: q3"),
        ([attempt("q3", 503, slug="database-away")], "was told 503 database-away and is recorded: q3"),
        ([attempt("q3", 0), attempt("q4", 200, 4, 2.0)], "is recorded 2 times"),
        ([attempt("q3", 200, 4)], "was told position 4 and is recorded at 3"),
        ([attempt("q3", 200, 3), attempt("q9", 200, 4, 2.0)], "was told something else than q3"),
        ([attempt("q9", 500)], "was answered 500"),
        ([attempt("q3", 409, 4, 0.1), attempt("q4", 0, None, 2.0)], "q4 is at 4, before q3 at 4"),
    ],
)
def test_a_word_that_the_log_does_not_keep_is_found(attempts: list[Attempt], sentence: str):
    broken = written.check([Note(0, ADD, "k", attempts)], history(TWICE))

    assert any(sentence in found for found in broken), broken


@pytest.mark.parametrize(
    "attempts", [[attempt("q3", 200, 3)], [attempt("q3", 0)], [attempt("q9", 503, slug="outcome-unknown")]]
)
def test_words_that_the_log_keeps_are_found_true(attempts: list[Attempt]):
    assert written.check([Note(0, ADD, "k", attempts)], history(TWICE)) == []


def test_a_replayed_batch_says_that_it_is_one_and_nothing_else_changes():
    call = Call("Transfer", "POST", "/api/batch")
    first, again, other = attempt("q3", 200, 3), attempt("q9", 200, 3, 2.0), attempt("q9", 200, 3, 2.0)
    again.replayed = other.replayed = True
    first.body = {"results": [{"status": 200, "body": {}}]}
    again.body = {"results": [{"status": 200, "body": {}, "replayed": True}]}
    other.body = {"results": [{"status": 201, "body": {}, "replayed": True}]}

    assert written.check([Note(0, call, "k", [first, again])], history(TWICE)) == []
    assert written.check([Note(0, call, "k", [first, other])], history(TWICE)) != []


def test_a_command_that_was_carried_out_twice_under_one_request_is_found():
    rows = history(TWICE)
    rows[3] = rows[3]._replace(data={**rows[3].data, "request_id": "q3"})

    broken = written.check([Note(0, ADD, "k", [attempt("q3", 200, 4)])], rows)

    assert any("q3 is recorded more than once" in found for found in broken)
    assert any("q3 is recorded at different times" in found for found in broken)


@pytest.mark.parametrize("on_hand, reserved, wrong", [(5, 3, 0), (5, 2, 1), (4, 3, 1)])
def test_an_answer_that_shows_something_else_than_the_log_is_found(on_hand: int, reserved: int, wrong: int):
    body = {"sku": "A", "amount_in_stock": on_hand, "reserved_quantity": reserved}

    assert len([*differences(fold(history(HELD)), Seen(3, "q", body, None))]) == wrong


def test_an_item_that_is_given_back_and_held_again_is_shown_as_it_is_now():
    facts = [
        *PIECE_HELD,
        item(2, "ItemReleased", reservation_id="r", cause="cancelled"),
        item(3, "ItemReserved", reservation_id="r", expires_at=UNTIL),
    ]
    folded = Fold()
    for row in history([*HELD, *facts]):
        folded.apply(row)
    lines = [
        {"sku": "A", "released": 0, "purchased": 0},
        {"sku": "N", "sn": "1", "released": 0, "purchased": 0},
    ]
    given_back = [lines[0], lines[1] | {"released": 1}]

    def wrong(shown: list[dict[str, Any]]) -> int:
        return len(
            [*differences(folded, Seen(folded.position, "q", {"id": "r", "state": "open", "lines": shown}, None))]
        )

    assert (wrong(lines), wrong(given_back)) == (0, 1)


@pytest.mark.parametrize(
    "statement, table",
    [
        ("UPDATE stock_levels SET reserved = 1", "stock_levels"),
        ("DELETE FROM stock_levels", "stock_levels"),
        ("UPDATE items SET sold = true", "items"),
    ],
)
def test_a_read_model_that_says_something_else_than_the_log_is_found(
    postgres_url: str, schema: str, stocked: list[Note], conn: psycopg.Connection, statement: str, table: str
):
    assert audit(postgres_url, schema, stocked).broken == []

    conn.execute(statement)

    broken = audit(postgres_url, schema, stocked).broken
    assert any(found.startswith(f"{table} (") for found in broken)
    assert any(found.startswith(f"{table}: ") and "differ when rebuilt" in found for found in broken)
