"""The past as the service tells it is the one that an independent recount of the exported log finds."""

import json
import random
import threading
from typing import Any

import pytest
from falcon.testing import TestClient

from ledger.engine.ledger import Ledger
from tests.past.carts import Shopper
from tests.past.questions import Told, ask, random_questions, wrong
from tests.past.recount import Question, Then, recount

SKUS = [f"S{number}" for number in range(20)]


def test_random_moments_of_concurrent_carts_are_told_as_the_log_counts_them(ledger: Ledger, client: TestClient):
    def get(target: str) -> Told:
        path, _, query = target.partition("?")
        answer = client.simulate_get(path, query_string=query)
        return Told(answer.status_code, int(answer.headers["Ledger-Position"]), answer.content)

    shoppers = [threading.Thread(target=Shopper(ledger, SKUS, seed).shop, args=[3_000]) for seed in range(3)]
    for shopper in shoppers:
        shopper.start()
    for shopper in shoppers:
        shopper.join()
    questions = random_questions(get, SKUS, 120, random.Random(7))
    told = {question: ask(get, question) for question in questions}
    log = client.simulate_get("/api/events", headers={"Accept": "application/x-ndjson"}).text.splitlines()

    then = recount(map(json.loads, log), questions)

    assert [why for question in questions if (why := wrong(question, told[question], then[question]))] == []
    assert {answer.status for answer in told.values()} == {200, 404}


def entry(position: int, second: int, stream: str, event: str, **data: Any) -> dict[str, Any]:
    at = f"2026-11-22T10:00:{second:02}.000000Z"
    return {"position": position, "recorded_at": at, "stream": stream, "version": 1, "event": event, "data": data}


LOG = [
    entry(1, 1, "product/A", "ProductRegistered.v1", kind="fungible", color="Red"),
    entry(2, 1, "stock/main/A", "StockAdded.v1", quantity=5, on_hand=5, reserved=0),
    entry(3, 2, "stock/main/A", "StockReserved.v1", quantity=2, on_hand=5, reserved=2),
    entry(4, 4, "product/A", "ProductRevised.v1", color=None),
]


@pytest.mark.parametrize(
    ("question", "position", "expected"),
    [
        (Question("A", position=2), 2, ("Red", 5, 0, 2)),
        (Question("A", position=3), 3, ("Red", 5, 2, 3)),
        (Question("A", position=4), 4, (None, 5, 2, 4)),
        (Question("A", moment="2026-11-22T10:00:01.000000Z"), 2, ("Red", 5, 0, 2)),
        (Question("A", moment="2026-11-22T10:00:03.999999Z"), 3, ("Red", 5, 2, 3)),
        (Question("A", moment="2026-11-22T10:00:09.000000Z"), 4, (None, 5, 2, 4)),
        (Question("A", moment="2026-11-22T10:00:00.999999Z"), 0, None),
        (Question("B", position=4), 4, None),
    ],
)
def test_the_recount_itself_counts(question: Question, position: int, expected: tuple[Any, ...] | None):
    then = recount(LOG, [question])[question]

    found = then.body and tuple(
        then.body[name] for name in ("color", "amount_in_stock", "reserved_quantity", "version")
    )
    assert (then.position, found) == (position, expected)


@pytest.mark.parametrize(
    ("told", "is_wrong"),
    [
        (Told(200, 2, b'{"sku":"A"}'), False),
        (Told(200, 3, b'{"sku":"A"}'), True),
        (Told(200, 2, b"{}"), True),
        (Told(404, 2, b'{"sku":"A"}'), True),
    ],
)
def test_another_answer_is_found_to_be_wrong(told: Told, is_wrong: bool):
    assert bool(wrong(Question("A", position=2), told, Then(2, {"sku": "A"}))) == is_wrong


@pytest.mark.parametrize(
    "log",
    [
        [LOG[0], LOG[2]],
        [LOG[0], {**LOG[1], "data": {**LOG[1]["data"], "on_hand": 6}}],
        [LOG[0], {**LOG[1], "recorded_at": "2026-11-22T09:00:00.000000Z"}],
    ],
)
def test_a_log_that_contradicts_itself_is_not_counted(log: list[dict[str, Any]]):
    with pytest.raises(AssertionError):
        recount(log, [])
