"""What an answer showed of the ledger at a log position, against what the log makes of that position.

A write's answer shows what is recorded. A read's answer shows holds as over once they are over by the clock, whether
or not that is recorded: what it must have shown depends on when in its course the clock was looked at.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from tests.chaos.fold import Fold, Hold, Line
from tests.chaos.notes import CLOCK_MARGIN_SECONDS, Attempt, by_the_wall

_MARGIN = timedelta(seconds=CLOCK_MARGIN_SECONDS)


class Seen(NamedTuple):
    """`between` is when a read looked at the clock, None for a write."""

    position: int
    request_id: str
    body: dict[str, Any]
    between: tuple[datetime, datetime] | None


def seen_by(attempt: Attempt, *, read: bool) -> Seen | None:
    """What a good answer showed; None for any other."""
    if attempt.word != "acknowledged" or attempt.position is None or attempt.answered is None:
        return None
    between = (by_the_wall(attempt.sent) - _MARGIN, by_the_wall(attempt.answered) + _MARGIN)
    return Seen(attempt.position, attempt.request_id, attempt.body, between if read else None)


def differences(fold: Fold, seen: Seen) -> Iterator[str]:
    """What cannot have been so; `fold` is at the position of `seen`."""
    body = seen.body
    where = f"{seen.request_id} at position {seen.position}"
    if "amount_in_stock" in body:
        yield from (f"{where}: {wrong}" for wrong in _fungible(fold, seen))
    if "sn" in body:
        yield from (f"{where}: {wrong}" for wrong in _item(fold, seen))
    made = body.get("reservation") or (body if "lines" in body else None)
    if made:
        yield from (f"{where}: {wrong}" for wrong in _reservation(fold, seen, made))


def _fungible(fold: Fold, seen: Seen) -> Iterator[str]:
    sku, shown = seen.body["sku"], (seen.body["amount_in_stock"], seen.body["reserved_quantity"])
    level = fold.stock.get(sku)
    on_hand, reserved = (level.on_hand, level.reserved) if level else (0, 0)
    least = most = reserved
    if seen.between:
        least -= _over(fold, sku, seen.between[1])
        most -= _over(fold, sku, seen.between[0])
    if shown[0] != on_hand or not least <= shown[1] <= most:
        yield f"showed {shown} of {sku}, the log says {on_hand} and {least} to {most}"


def _over(fold: Fold, sku: str, now: datetime) -> int:
    """How much of a SKU is still recorded as held by reservations that are over by the clock."""
    lines = [hold.lines[sku, ""] for hold in fold.holds.values() if hold.expires_at <= now and (sku, "") in hold.lines]
    return sum(line.remaining for line in lines)


def _item(fold: Fold, seen: Seen) -> Iterator[str]:
    body = seen.body
    item = fold.items.get((body["sku"], body["sn"]))
    if item is None:
        yield f"showed item {body['sku']}/{body['sn']}, which is not in the log"
        return
    allowed = [item.held_by]
    if seen.between and item.until is not None and item.until <= seen.between[1]:
        allowed = [None] if item.until <= seen.between[0] else [item.held_by, None]
    if body["sold"] != item.sold or body["reservation_id"] not in allowed:
        shown = (body["sold"], body["reservation_id"])
        yield f"showed {shown} of {body['sku']}/{body['sn']}, the log says {item.sold} and one of {allowed}"


def _reservation(fold: Fold, seen: Seen, shown: dict[str, Any]) -> Iterator[str]:
    hold = fold.holds.get(shown["id"])
    if hold is None:
        yield f"showed reservation {shown['id']}, which is not in the log"
        return
    lines = {
        (line["sku"], line.get("sn", "")): (line["released"], line["purchased"], line.get("returned", 0))
        for line in shown["lines"]
    }
    is_over = hold.state == "open" and shown["state"] != "open"
    folded = {(sku, sn): _shown_of(line, is_over, is_item=sn != "") for (sku, sn), line in hold.lines.items()}
    if lines != folded or shown["state"] not in _states(hold, seen):
        yield f"showed {shown['state']} {lines} of {shown['id']}, the log says {hold.state} {folded}"


def _shown_of(line: Line, is_over: bool, is_item: bool) -> tuple[int, int, int]:
    """What of a line went back, was purchased, came back; of an item, which may be held anew, as it is now."""
    remaining = 0 if is_over else line.remaining
    if is_item:
        return max(0, 1 - remaining - line.purchased), line.purchased, line.returned
    return line.quantity - remaining - line.purchased, line.purchased, line.returned


def _states(hold: Hold, seen: Seen) -> set[str]:
    """The states that may be shown of a reservation."""
    if hold.state != "open" or not seen.between or hold.expires_at > seen.between[1]:
        return {hold.state}
    over = "purchased" if any(line.purchased for line in hold.lines.values()) else "expired"
    return {over} if hold.expires_at <= seen.between[0] else {over, "open"}
