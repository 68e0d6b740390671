"""The demo: what it computes from the file, and that it notices when the service disagrees."""

import csv
import gzip
import socket
from collections import Counter

import pytest
import retail_day
from trading_day import (
    Level,
    Line,
    day_steps,
    differences,
    expected_levels,
    need,
    opening_steps,
    opening_stock,
    product,
    read_lines,
)

from tests.examples.fake_shop import fake_shop

ROWS = (
    ("536365", "85123A", " WHITE  HOLDER ", "6", "2.55", "17850.0"),
    ("536366", "BANK CHARGES", "", "1", "15", ""),
    ("C536379", "85123A", "WHITE HOLDER", "-4", "2.55", "17850.0"),
    ("536380", "85123A", "", "-3", "0.0", ""),
    ("536381", "85123A", "WHITE HOLDER", "10", "2.1", "12431.0"),
)
NAMES = ("InvoiceNo", "StockCode", "Description", "Quantity", "UnitPrice", "CustomerID")


def lines_of(*rows: tuple[str, ...], prefix: str = "") -> list[Line]:
    return read_lines([dict(zip(NAMES, row, strict=True)) for row in rows], prefix)


def bundled_lines() -> list[Line]:
    with gzip.open(retail_day.DATA, "rt", encoding="utf-8", newline="") as file:
        return read_lines(csv.DictReader(file))


def test_a_row_becomes_a_line_in_cents_with_its_sku_unchanged() -> None:
    assert lines_of(ROWS[0], prefix="x-") == [Line(1, "536365", "x-85123A", "WHITE HOLDER", 6, 255, "17850")]


def test_a_row_that_moves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="line 1 moves nothing"):
        lines_of(("1", "A", "", "0", "1.0", ""))


def test_a_line_is_a_reservation_a_return_or_a_write_off() -> None:
    assert [line.action for line in lines_of(*ROWS)] == ["reserve", "reserve", "add", "remove", "reserve"]


def test_need_is_the_highest_point_that_the_lines_reach_in_order() -> None:
    lines = [line for line in lines_of(*ROWS) if line.sku == "85123A"]

    assert need(lines) == 6 - 4 + 3 + 10
    assert need(lines[:3]) == 6
    assert need(lines[1:2]) == 0


def test_every_tenth_sku_opens_with_exactly_its_need() -> None:
    lines = lines_of(*((str(n), f"S{n}", "", "5", "1.0", "") for n in range(21)))

    opening = opening_stock(lines)

    assert opening == {f"S{n}": 5 if n in (0, 10, 20) else 7 for n in range(21)}


def test_expected_levels_start_from_what_was_there() -> None:
    before = {"85123A": Level(100, 40), "BANK CHARGES": Level(0, 0)}

    expected = expected_levels(before, {"85123A": 15, "BANK CHARGES": 2}, lines_of(*ROWS))

    assert expected == {"85123A": Level(100 + 15 + 4 - 3, 40 + 6 + 10), "BANK CHARGES": Level(2, 1)}


def test_the_product_takes_the_first_description_and_price_that_are_given() -> None:
    assert product(lines_of(("1", "A", "", "1", "0.0", ""), *ROWS[3:])) == {
        "name": "White holder",
        "description": "WHITE HOLDER",
        "unit_price_cents": 210,
    }
    assert product(lines_of(ROWS[1])) == {"unit_price_cents": 1500}


def test_a_line_is_sent_as_one_write_with_its_reason() -> None:
    steps = day_steps(lines_of(*ROWS[1:4]), "run")

    assert [(step.request, dict(step.body), step.key) for step in steps] == [
        (
            ("POST", "/api/fungible/BANK%20CHARGES/reserve/1"),
            {"reference": "536366", "ttl_seconds": 2592000},
            "run-line-1",
        ),
        (("POST", "/api/fungible/85123A/add/4"), {"reason": "cancellation", "reference": "C536379"}, "run-line-2"),
        (("POST", "/api/fungible/85123A/remove/3"), {"reason": "write-off", "reference": "536380"}, "run-line-3"),
    ]


def test_a_difference_is_told_in_one_sentence() -> None:
    wrong = differences({"A": Level(1, 0), "B": Level(2, 1)}, {"A": Level(1, 0), "B": Level(2, 2)})

    assert wrong == ["B: amount 2, reserved 2; expected amount 2, reserved 1"]


def test_the_bundled_days_can_be_sold_from_their_opening_stock() -> None:
    lines = bundled_lines()
    opening = opening_stock(lines)
    levels = dict(opening)

    for line in lines:
        levels[line.sku] += abs(line.quantity) if line.action == "add" else -abs(line.quantity)
        assert levels[line.sku] >= 0

    assert (len(lines), len(opening)) == (5217, 1608)
    assert Counter(line.action for line in lines) == {"reserve": 5145, "add": 70, "remove": 2}
    keys = [step.key for step in opening_steps(lines, "run") + day_steps(lines, "run")]
    assert len(keys) == len(set(keys))


def test_the_demo_reconciles_through_busy_answers_and_cut_connections(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_shop() as shop:
        shop.levels["85123A"], shop.busy, shop.cut = [9, 2], 3, 3
        code = retail_day.run_demo(retail_day.Demo(shop.url, callers=2), lines_of(*ROWS))

    printed = capsys.readouterr().out
    assert (code, printed.splitlines()[-1]) == (0, "reconciled: 2 products, 0 differences")
    assert "adds: 2 opening, 1 cancellations; reservations: 3; removals: 1; refused: 0" in printed
    assert len(shop.bodies) == 9


def test_the_demo_lists_every_level_that_is_not_as_computed(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_shop() as shop:
        shop.levels["85123A"] = [0, 20]
        code = retail_day.run_demo(retail_day.Demo(shop.url, callers=1), lines_of(*ROWS))

    printed = capsys.readouterr().out
    assert code == 1
    assert "85123A: amount 19, reserved 20; expected amount 16, reserved 36\nreconciled: 2 products, 1 diff" in printed


def test_the_demo_says_in_one_line_that_no_service_is_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setattr("sys.argv", ["retail_day.py", "--base", f"http://127.0.0.1:{port}"])

    assert retail_day.main() == 2
    assert capsys.readouterr().err.startswith(f"error: no Stockledger at http://127.0.0.1:{port} (")
