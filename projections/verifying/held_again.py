"""Reservations that expired and were held again: what the log makes of them before and after, joined to one."""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from ledger.audit.findings import Finding, Findings
from projections.verifying.rows import columns_of
from projections.verifying.tables import LINES, RESERVATIONS

Rows = dict[tuple[bytes, bytes], bytes]
Columns = dict[str, bytes]
# Of a reservation, what is as the last hold on it left it; of a line, what adds up.
_LAST = ("state", "expires_at", "ended_at", "remaining")
_SUMS = ("quantity", "released", "purchased", "returned", "remaining", "expired")
# Behind the columns of a line that was held again: how many units of it had expired.
_AGAIN = (*LINES.columns, "again")


class HeldAgain(Struct):
    """The row of `reservations` that the last hold leaves, and its lines' rows with how much of each had expired."""

    row: bytes
    lines: list[bytes] = []


def join(expected: Rows, later: HeldAgain, findings: Findings) -> None:
    """Carry what a reservation became into the rows of what it was; tells where that cannot have been so."""
    now = _named(RESERVATIONS.columns, later.row)
    key = RESERVATIONS.tag, RESERVATIONS.key_of(later.row)
    was = _named(RESERVATIONS.columns, expected[key]) if key in expected else None
    if was is None or was["state"] != "expired" or int(was["position"]) > int(now["position"]):
        _tell(findings, now, "reservation-not-open", "a reservation that has expired", now["reservation_id"])
        return
    for name in ("owner", "reference"):
        if was[name] != now[name]:
            _tell(findings, now, "reservation-taken", f"{name} {was[name]}", f"{name} {now[name]}")
    columns = _bytes(RESERVATIONS.columns, expected[key])
    columns |= {name: value for name, value in _bytes(RESERVATIONS.columns, later.row).items() if name in _LAST}
    expected[key] = b"\t".join(columns.values())
    for sku, sn, expired, again in _join_lines(expected, columns, later.lines):
        if expired != again:
            what = f"{sku.decode()}/{sn.decode()}" if sn else sku.decode()
            _tell(findings, now, "quantity", f"{expired} of {what}, which had expired", str(again))


def _join_lines(expected: Rows, made: Columns, later: Iterable[bytes]) -> Iterator[tuple[bytes, bytes, int, int]]:
    """SKU, serial number, units that had expired and units that were held again of each line."""
    numbers: dict[tuple[bytes, bytes], int] = {}
    while (row := expected.get(_line(made, len(numbers)))) is not None:
        line = _bytes(LINES.columns, row)
        numbers[line["sku"], line["sn"]] = len(numbers)
        expected[_line(made, len(numbers) - 1)] = _row(line | {"expires_at": made["expires_at"]})
    unheld = set(numbers)
    for more in (_bytes(_AGAIN, row) for row in later):
        what = more["sku"], more["sn"]
        unheld.discard(what)
        key = _line(made, numbers.setdefault(what, len(numbers)))
        line = _bytes(LINES.columns, expected[key]) if key in expected else _new_line(made, more, numbers[what])
        yield *what, int(line["expired"]), int(more["again"])
        expected[key] = _row(line | {name: b"%d" % (int(line[name]) + int(more[name])) for name in _SUMS})
    for sku, sn in unheld:
        yield sku, sn, int(_bytes(LINES.columns, expected[_line(made, numbers[sku, sn])])["expired"]), 0


def _line(made: Columns, number: int) -> tuple[bytes, bytes]:
    return LINES.tag, b"%s\t%d" % (made["reservation_id"], number)


def _new_line(made: Columns, more: Columns, number: int) -> Columns:
    """One that was added after it was held again, as it was before."""
    place = {"line": b"%d" % number, "position": made["position"]}
    return more | place | dict.fromkeys(_SUMS, b"0")


def _row(line: Columns) -> bytes:
    return b"\t".join(line[name] for name in LINES.columns)


def _tell(findings: Findings, now: Mapping[str, str], kind: str, expected: str, found: str) -> None:
    findings.add(Finding(kind=kind, expected=expected, found=found, position=int(now["position"])))


def _named(columns: tuple[str, ...], row: bytes) -> Mapping[str, str]:
    return dict(zip(columns, columns_of(row), strict=True))


def _bytes(columns: tuple[str, ...], row: bytes) -> Columns:
    return dict(zip(columns, row.split(b"\t"), strict=True))
