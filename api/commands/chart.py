"""A small chart for the terminal: what was on hand over time, and how much of it was reserved."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

HEIGHT = 8
MAX_WIDTH = 72
_ON_HAND, _RESERVED = "░", "█"


class Point(NamedTuple):
    """The balance from `at` on."""

    at: datetime
    on_hand: int
    reserved: int


def draw(points: Sequence[Point], width: int) -> list[str]:
    """Lines of at most `width` characters; `points` are in order of time and not empty."""
    top = max(1, *(point.on_hand for point in points))
    label = len(f"{top}")
    columns = _columns(points, max(2, min(MAX_WIDTH, width - label - 2)))
    rows = [
        f"{top if level == HEIGHT else 0 if level == 1 else '':>{label}} │"
        + "".join(_cell(column, level, top) for column in columns).rstrip()
        for level in range(HEIGHT, 0, -1)
    ]
    first, last = (f"{point.at:%Y-%m-%d %H:%M:%S}" for point in (points[0], points[-1]))
    margin = " " * (label + 2)
    return [
        *rows,
        f"{margin}{first}{last:>{max(len(last) + 1, len(columns) - len(first))}}",
        f"{margin}{_ON_HAND} on hand  {_RESERVED} reserved",
    ]


def _columns(points: Sequence[Point], count: int) -> list[Point]:
    """The balance at the end of each of equal spans of time."""
    begin, span = points[0].at, points[-1].at - points[0].at
    columns, upcoming = [], 0
    for number in range(1, count + 1):
        while upcoming + 1 < len(points) and (points[upcoming + 1].at - begin) * count <= span * number:
            upcoming += 1
        columns.append(points[upcoming])
    return columns


def _cell(point: Point, level: int, top: int) -> str:
    """What a column shows in the row `level` from below: whatever is there at all has one row at least."""
    for amount, block in ((point.reserved, _RESERVED), (point.on_hand, _ON_HAND)):
        if amount and level <= max(1, round(amount / top * HEIGHT)):
            return block
    return " "
