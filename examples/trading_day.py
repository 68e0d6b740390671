"""The trading day as lines, moves and levels: everything the demo computes without asking the service."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple
from urllib.parse import quote

TTL_SECONDS = 2_592_000  # the longest hold there is, so that none ends between two runs on one day
EXACT_EVERY = 10  # every tenth SKU opens with exactly what its lines need: one unit less and the day would be refused
MARGIN_PERCENT = 20  # what the other SKUs open with beyond their need


class Level(NamedTuple):
    """Units of one SKU: in stock altogether, and the part of them that is reserved."""

    amount: int
    reserved: int


@dataclass(frozen=True)
class Line:
    """One line of the file; `quantity` keeps its sign."""

    number: int
    invoice: str
    sku: str
    description: str
    quantity: int
    unit_price_cents: int
    customer: str

    @property
    def action(self) -> str:
        """What the line means for stock: `add` for a cancellation, `remove` for a write-off, otherwise `reserve`."""
        if self.invoice.startswith("C"):
            return "add"
        return "reserve" if self.quantity > 0 else "remove"


@dataclass(frozen=True)
class Step:
    """One write to send: `kind` is register, add, remove or reserve; `key` tells it from all others of the run."""

    kind: str
    sku: str
    quantity: int
    body: Mapping[str, object]
    key: str

    @property
    def request(self) -> tuple[str, str]:
        """Method and path."""
        path = f"/api/fungible/{quote(self.sku, safe='')}"
        return ("PUT", path) if self.kind == "register" else ("POST", f"{path}/{self.kind}/{self.quantity}")


def read_lines(rows: Iterable[Mapping[str, str]], prefix: str = "") -> list[Line]:
    """The rows of the file as lines, each SKU with `prefix` in front. Raises ValueError for a quantity of zero."""
    lines = []
    for number, row in enumerate(rows, 1):
        line = Line(
            number=number,
            invoice=row["InvoiceNo"],
            sku=prefix + row["StockCode"],
            description=" ".join(row["Description"].split()),
            quantity=int(row["Quantity"]),
            unit_price_cents=int((Decimal(row["UnitPrice"]) * 100).to_integral_value()),
            customer=row["CustomerID"].removesuffix(".0"),
        )
        if line.quantity == 0:
            raise ValueError(f"line {number} moves nothing")
        lines.append(line)
    return lines


def by_sku(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """The lines of each SKU in their order, SKUs in the order of their first line."""
    groups: defaultdict[str, list[Line]] = defaultdict(list)
    for line in lines:
        groups[line.sku].append(line)
    return dict(groups)


def need(lines: Iterable[Line]) -> int:
    """The least opening stock of one SKU from which its lines, taken in order, can all be served."""
    taken = most = 0
    for line in lines:
        taken += -abs(line.quantity) if line.action == "add" else abs(line.quantity)
        most = max(most, taken)
    return most


def opening_stock(lines: Iterable[Line]) -> dict[str, int]:
    """Units that each SKU starts with: every tenth SKU exactly its need, the others some more."""
    opening = {}
    for index, (sku, own) in enumerate(by_sku(lines).items()):
        least = need(own)
        opening[sku] = least if index % EXACT_EVERY == 0 else least + least * MARGIN_PERCENT // 100 + 1
    return opening


def expected_levels(before: Mapping[str, Level], opening: Mapping[str, int], lines: Iterable[Line]) -> dict[str, Level]:
    """Where every SKU must stand at the end, given where it stood before; refuses nothing, as the day is feasible."""
    levels = {sku: Level(before[sku].amount + units, before[sku].reserved) for sku, units in opening.items()}
    for line in lines:
        amount, reserved = levels[line.sku]
        match line.action:
            case "add":
                levels[line.sku] = Level(amount + abs(line.quantity), reserved)
            case "remove":
                levels[line.sku] = Level(amount - abs(line.quantity), reserved)
            case _:
                levels[line.sku] = Level(amount, reserved + line.quantity)
    return levels


def opening_steps(lines: Iterable[Line], run: str) -> list[Step]:
    """Register every product and receive its opening stock, where there is any to receive."""
    lines = list(lines)
    opening = opening_stock(lines)
    steps = []
    for index, (sku, own) in enumerate(by_sku(lines).items()):
        steps.append(Step("register", sku, 0, product(own), f"{run}-register-{index}"))
        if opening[sku]:
            why = {"reason": "opening stock", "reference": run}
            steps.append(Step("add", sku, opening[sku], why, f"{run}-open-{index}"))
    return steps


def product(lines: Iterable[Line]) -> dict[str, object]:
    """Members of the PUT for one SKU: the first description and the first price above zero that its lines tell."""
    lines = list(lines)
    price = next((line.unit_price_cents for line in lines if line.unit_price_cents), 0)
    description = next((line.description for line in lines if line.description), None)
    named = {"name": description.capitalize(), "description": description} if description else {}
    return {**named, "unit_price_cents": price}


def day_steps(lines: Iterable[Line], run: str) -> list[Step]:
    """One write for every line, in their order."""
    bodies: dict[str, Callable[[Line], dict[str, object]]] = {
        "add": lambda line: {"reason": "cancellation", "reference": line.invoice},
        "remove": lambda line: {"reason": "write-off", "reference": line.invoice},
        "reserve": lambda line: {
            "reference": line.invoice,
            "ttl_seconds": TTL_SECONDS,
            **({"owner": line.customer} if line.customer else {}),
        },
    }
    return [
        Step(line.action, line.sku, abs(line.quantity), bodies[line.action](line), f"{run}-line-{line.number}")
        for line in lines
    ]


def differences(expected: Mapping[str, Level], actual: Mapping[str, Level]) -> list[str]:
    """One sentence for every SKU that does not stand where it must."""
    return [
        f"{sku}: amount {actual[sku].amount}, reserved {actual[sku].reserved}; "
        f"expected amount {level.amount}, reserved {level.reserved}"
        for sku, level in expected.items()
        if actual[sku] != level
    ]
