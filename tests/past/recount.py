"""What any fungible product was at any moment, counted up from the exported log by somebody who trusts nobody.

Nothing of the service is imported: an entry comes as plain JSON, and a balance is the sum of the quantities before it.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# What one unit of each event does to the balance: (on hand, reserved).
MOVES = {
    "StockAdded.v1": (1, 0),
    "StockRemoved.v1": (-1, 0),
    "StockReserved.v1": (0, 1),
    "StockReleased.v1": (0, -1),
    "StockPurchased.v1": (-1, -1),
    "StockReturned.v1": (1, 0),
    "StockReservationExtended.v1": (0, 0),
}


class Question(NamedTuple):
    """What `sku` was at a position, or at a time as the log writes it (RFC 3339 to the microsecond, UTC)."""

    sku: str
    position: int | None = None
    moment: str | None = None


class Then(NamedTuple):
    """The position that a question is about, and what GET has to answer: a body, or None where there is nothing."""

    position: int
    body: dict[str, Any] | None


@dataclass
class Account:
    product: dict[str, Any] = field(default_factory=dict)
    on_hand: int = 0
    reserved: int = 0
    facts: int = 0
    updated_at: str = ""

    def body(self, sku: str) -> dict[str, Any] | None:
        if not self.product:
            return None
        texts = {name: self.product.get(name) for name in ("name", "description", "color")}
        numbers = {name: self.product.get(name, 0) for name in ("unit_price_cents", "shipping_weight_grams")}
        return {
            **{"sku": sku, **texts, **numbers},
            "amount_in_stock": self.on_hand,
            "reserved_quantity": self.reserved,
            "available_quantity": self.on_hand - self.reserved,
            "version": self.facts,
            "updated_at": self.updated_at,
        }


def recount(log: Iterable[dict[str, Any]], questions: Iterable[Question]) -> dict[Question, Then]:
    """Read the whole log once and answer every question on the way; raises AssertionError where it contradicts itself.

    Times compare as text, since all are written alike.
    """
    asked = list(questions)
    by_position = sorted((q for q in asked if q.position is not None), key=lambda q: -(q.position or 0))
    by_time = sorted((q for q in asked if q.moment is not None), key=lambda q: q.moment or "", reverse=True)
    accounts: dict[str, Account] = defaultdict(Account)
    answers: dict[Question, Then] = {}
    position, recorded_at = 0, ""

    def tell(question: Question) -> None:
        answers[question] = Then(position, accounts[question.sku].body(question.sku))

    for entry in log:
        while by_time and (by_time[-1].moment or "") < entry["recorded_at"]:
            tell(by_time.pop())
        assert entry["position"] == position + 1, f"position {entry['position']} follows {position}"
        assert entry["recorded_at"] >= recorded_at, f"position {entry['position']} is earlier than the one before"
        position, recorded_at = entry["position"], entry["recorded_at"]
        _apply(accounts, entry)
        while by_position and by_position[-1].position == position:
            tell(by_position.pop())
    for question in by_time[::-1]:
        tell(question)
    assert not by_position, f"the log ends at {position}"
    return answers


def _apply(accounts: dict[str, Account], entry: dict[str, Any]) -> None:
    family, *where = entry["stream"].split("/")
    account, data = accounts[where[-1]], entry["data"]
    if family == "product":
        known = ("name", "description", "color", "unit_price_cents", "shipping_weight_grams", "kind")
        account.product.update({name: data[name] for name in known if name in data})
    else:
        on_hand, reserved = MOVES[entry["event"]]
        account.on_hand += on_hand * data["quantity"]
        account.reserved += reserved * data["quantity"]
        said = (data["on_hand"], data["reserved"])
        assert said == (account.on_hand, account.reserved), f"position {entry['position']} says {said}"
        assert 0 <= account.reserved <= account.on_hand, f"oversold at position {entry['position']}"
    account.facts += 1
    account.updated_at = entry["recorded_at"]
