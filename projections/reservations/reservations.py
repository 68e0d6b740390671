"""Read models `reservations` and `reservation_lines`: what each cart holds, until when, and how it ended."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from msgspec.structs import astuple

from ledger.items.items import ITEMS
from ledger.reservations.reservations import RESERVATIONS, HeldLine, Reservation, line_key
from ledger.reservations.shortfall import Due
from ledger.state import Keys
from ledger.store.connection import BoundedConnection, Connection
from ledger.store.roundtrip import RoundTrip, ask_one
from ledger.unit_of_work import UnitOfWork
from projections.items import items
from projections.model import Fill, StateModel
from projections.rows import HEAD, NAMED, SNAPSHOT, Named, as_json, copy_in
from projections.stock import stock_levels

MAX_COUNTED = 10_000

COLUMNS = "reservation_id, position, state, owner, reference, created_at, expires_at, ended_at, fingerprint, remaining"
LINE_COLUMNS = (
    "reservation_id, line, position, sku, sn, quantity, released, purchased, returned, remaining, expires_at, expired"
)
_LINE_NAMES = LINE_COLUMNS.split(", ")

# By the clock: an overdue hold is over even before that is written down.
STATE = (
    "CASE WHEN state <> 'open' OR expires_at > {now} THEN state"
    " WHEN EXISTS (SELECT FROM reservation_lines AS l WHERE l.reservation_id = reservations.reservation_id"
    " AND l.purchased > 0) THEN 'purchased' ELSE 'expired' END"
)

_LOAD = f"SELECT {COLUMNS} FROM reservations WHERE reservation_id IN ({NAMED})"
_LINES = """
SELECT reservation_id, sku, quantity, nullif(sn, '') AS sn, released, purchased, returned, expired
FROM reservation_lines WHERE reservation_id IN ({of}) ORDER BY reservation_id, line
"""
_LOAD_LINES = _LINES.format(of=NAMED)
_OVERDUE = """
SELECT reservation_id FROM reservation_lines
WHERE sku = ANY($1) AND sn = '' AND remaining > 0 AND expires_at <= $2
ORDER BY expires_at LIMIT $3
"""
_FIRST_DUE = """
SELECT wanted.sku, due.expires_at, due.reservation_id
FROM unnest($1::text[]) AS wanted (sku)
CROSS JOIN LATERAL (
    SELECT expires_at, reservation_id FROM reservation_lines AS l
    WHERE l.sku = wanted.sku AND l.sn = '' AND l.remaining > 0 AND l.reservation_id <> ALL($2)
    ORDER BY l.expires_at LIMIT 1
) AS due
"""
_SAVE = f"""
INSERT INTO reservations ({COLUMNS})
SELECT {COLUMNS} FROM json_to_recordset($1) AS new (
    reservation_id uuid, position bigint, state text, owner text, reference text, created_at timestamptz,
    expires_at timestamptz, ended_at timestamptz, fingerprint text, remaining bigint
)
ON CONFLICT (reservation_id) DO UPDATE SET
    state = excluded.state,
    expires_at = excluded.expires_at,
    ended_at = excluded.ended_at,
    remaining = excluded.remaining
"""
_SAVE_LINES = f"""
INSERT INTO reservation_lines ({LINE_COLUMNS})
SELECT {LINE_COLUMNS} FROM json_to_recordset($1) AS new (
    reservation_id uuid, line integer, position bigint, sku text, sn text, quantity bigint, released bigint,
    purchased bigint, returned bigint, remaining bigint, expires_at timestamptz, expired bigint
)
ON CONFLICT (reservation_id, line) DO UPDATE SET
    quantity = excluded.quantity,
    released = excluded.released,
    purchased = excluded.purchased,
    returned = excluded.returned,
    remaining = excluded.remaining,
    expires_at = excluded.expires_at,
    expired = excluded.expired
"""

# In order of the index on open reservations: a probe of its beginning, whatever their number.
_DUE = """
SELECT reservation_id, extract(epoch FROM expires_at - statement_timestamp())::float8
FROM reservations WHERE state = 'open' ORDER BY expires_at LIMIT $1
"""
_LAG = """
SELECT count(*), coalesce(extract(epoch FROM statement_timestamp() - min(expires_at)), 0)::float8
FROM (
    SELECT expires_at FROM reservations
    WHERE state = 'open' AND expires_at <= statement_timestamp() ORDER BY expires_at LIMIT $1
) AS overdue
"""
_NOW = f"SELECT head.position, statement_timestamp() FROM {HEAD} AS head"
_GET = f"SELECT {COLUMNS} FROM reservations WHERE reservation_id = $1"
# `where` is put together from the constants below; values are parameters.
_PAGE = f"SELECT {COLUMNS} FROM reservations WHERE position > $1{{where}} ORDER BY position LIMIT $2"
_FILTERS = {
    "state": f"{STATE.format(now='statement_timestamp()')} = ${{n}}",
    "owner": "md5(owner) = md5(${n}) AND owner = ${n}",
    "sku": "position IN (SELECT position FROM reservation_lines WHERE sku = ${n})",
}


def load_named(trip: RoundTrip, named: Named) -> Fill:
    heads, lines = trip.ask(_LOAD, *named), trip.ask(_LOAD_LINES, *named)

    def fill(work: UnitOfWork) -> None:
        for found in assemble(heads.rows(), lines.rows()):
            work[RESERVATIONS].setdefault(found.reservation_id, found)
        for reservation_id in named.reservations:
            work[RESERVATIONS].setdefault(reservation_id, None)

    return fill


def assemble(heads: Iterable[Sequence[Any]], lines: Iterable[Sequence[Any]]) -> Iterator[Reservation]:
    """Reservations from rows of COLUMNS and of _LINES, in the order of the heads."""
    of: dict[UUID, dict[str, HeldLine]] = {}
    for reservation_id, *line in lines:
        held = HeldLine(*line)
        of.setdefault(reservation_id, {})[line_key(held.sku, held.sn)] = held
    for head in heads:
        yield Reservation(*(*head, of[head[0]]))


def overdue(conn: BoundedConnection, skus: Collection[str], now: datetime, limit: int) -> list[UUID]:
    """Open reservations on fungible `skus` that are over at `now`, the longest overdue first."""
    return [row[0] for row in ask_one(conn, _OVERDUE, list(skus), now, limit)]


def first_due(conn: BoundedConnection, skus: Collection[str], but: Collection[UUID]) -> dict[str, Due]:
    """The open hold on each fungible SKU that ends first, leaving out the reservations `but`."""
    rows = ask_one(conn, _FIRST_DUE, list(skus), list(but))
    return {sku: Due(expires_at, reservation_id) for sku, expires_at, reservation_id in rows}


def due(conn: BoundedConnection, limit: int) -> tuple[list[UUID], float | None]:
    """Open reservations that are over by the clock, the longest overdue first, and seconds until the next one is.

    The latter is None when none is open beyond these, and 0 when there are more than `limit`.
    """
    rows = ask_one(conn, _DUE, limit + 1)
    over = [reservation_id for reservation_id, seconds in rows if seconds <= 0]
    upcoming = [seconds for _, seconds in rows if seconds > 0]
    return over[:limit], 0.0 if len(over) > limit else min(upcoming, default=None)


class Lag(NamedTuple):
    """Reservations that are over but not written down as such: how many (counted to a limit), and since when."""

    overdue: int
    seconds: float


def lag(conn: BoundedConnection) -> Lag:
    ((overdue, seconds),) = ask_one(conn, _LAG, MAX_COUNTED)
    return Lag(overdue, seconds)


def get(conn: BoundedConnection, reservation_id: UUID) -> tuple[int, datetime, Reservation | None]:
    """The log position, the time, and the reservation."""
    position, now, found = _select(conn, _GET, [reservation_id])
    return position, now, found[0] if found else None


def page(
    conn: BoundedConnection, after: int, limit: int, *, state: str | None, owner: str | None, sku: str | None
) -> tuple[int, datetime, list[Reservation]]:
    """The log position, the time, and reservations in the order they were made, with what is not None as filter."""
    given = {"state": state, "owner": owner, "sku": sku}
    chosen = {column: value for column, value in given.items() if value is not None}
    where = "".join(f" AND {_FILTERS[column].format(n=number)}" for number, column in enumerate(chosen, 3))
    return _select(conn, _PAGE.format(where=where), [after, limit, *chosen.values()])


def _select(conn: BoundedConnection, query: str, parameters: Sequence[Any]) -> tuple[int, datetime, list[Reservation]]:
    """All in one snapshot, so that a reader who is told a position sees just what happened up to it."""
    trip = RoundTrip(conn)
    trip.ask(SNAPSHOT)
    head = trip.ask(_NOW)
    heads = trip.ask(query, *parameters)
    lines = trip.ask(_LINES.format(of=f"SELECT reservation_id FROM ({query}) AS found"), *parameters)
    trip.ask("COMMIT")
    trip.go()
    ((position, now),) = head.rows()
    return position, now, list(assemble(heads.rows(), lines.rows()))


def save(trip: RoundTrip, reservations: Collection[Reservation]) -> None:
    trip.ask(_SAVE, as_json([_head(r) for r in reservations]))
    trip.ask(_SAVE_LINES, as_json([line for r in reservations for line in _lines(r)]))


def bulk(conn: Connection, reservations: Collection[Reservation]) -> None:
    """Add reservations that the tables do not hold."""
    copy_in(conn, "reservations", COLUMNS, [astuple(r)[:-1] for r in reservations])
    copy_in(conn, "reservation_lines", LINE_COLUMNS, [row for r in reservations for row in _line_rows(r)])


def _head(r: Reservation) -> dict[str, Any]:
    return {name: getattr(r, name) for name in COLUMNS.split(", ")}


def _lines(r: Reservation) -> Iterator[dict[str, Any]]:
    return (dict(zip(_LINE_NAMES, row, strict=True)) for row in _line_rows(r))


def _line_rows(r: Reservation) -> list[tuple[Any, ...]]:
    """Rows of LINE_COLUMNS."""
    return [
        (
            r.reservation_id,
            number,
            r.position,
            line.sku,
            line.sn or "",
            line.quantity,
            line.released,
            line.purchased,
            line.returned,
            line.quantity - line.released - line.purchased,
            r.expires_at,
            line.expired,
        )
        for number, line in enumerate(r.lines.values())
    ]


def _load_with_holds(trip: RoundTrip, needs: Keys) -> list[Fill]:
    """A reservation brings along everything that it holds, an item the hold on it."""
    ids, keys = needs.of(RESERVATIONS), sorted(needs.of(ITEMS))
    if not ids and not keys:
        return []
    named = Named(sorted(ids), [sku for sku, _ in keys], [sn for _, sn in keys])
    return [find(trip, named) for find in (load_named, stock_levels.load_held, items.load_held)]


def _load(trip: RoundTrip, ids: Iterable[UUID]) -> Fill:
    return load_named(trip, Named(list(ids), [], []))


MODEL: StateModel[UUID, Reservation] = StateModel(
    "reservations",
    ("reservations", "reservation_lines"),
    RESERVATIONS,
    load=_load,
    write=save,
    bulk=bulk,
    ask=_load_with_holds,
)
