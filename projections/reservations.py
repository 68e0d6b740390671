"""Read models `reservations` and `reservation_lines`: what each cart holds, until when, and how it ended."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from ledger.batch import Due
from ledger.books import Books
from ledger.reservations import HeldLine, Reservation, line_key
from ledger.store.connection import Connection
from projections.rows import HEAD, as_json

MAX_COUNTED = 10_000

COLUMNS = "reservation_id, position, state, owner, reference, created_at, expires_at, ended_at, fingerprint, remaining"
LINE_COLUMNS = "reservation_id, line, position, sku, sn, quantity, released, purchased, returned, remaining, expires_at"

_LOAD = f"SELECT {COLUMNS} FROM reservations WHERE reservation_id = ANY(%s)"
LOAD_LINES = """
SELECT reservation_id, sku, quantity, nullif(sn, '') AS sn, released, purchased, returned
FROM reservation_lines WHERE reservation_id = ANY(%s) ORDER BY reservation_id, line
"""
_HOLDERS = """
SELECT reservation_id FROM items
WHERE (sku, sn) IN (SELECT * FROM unnest(%s::text[], %s::text[])) AND reservation_id IS NOT NULL
"""
_OVERDUE = """
SELECT reservation_id FROM reservation_lines
WHERE sku = ANY(%s) AND sn = '' AND remaining > 0 AND expires_at <= %s
ORDER BY expires_at LIMIT %s
"""
_FIRST_DUE = """
SELECT wanted.sku, due.expires_at, due.reservation_id
FROM unnest(%s::text[]) AS wanted (sku)
CROSS JOIN LATERAL (
    SELECT expires_at, reservation_id FROM reservation_lines AS l
    WHERE l.sku = wanted.sku AND l.sn = '' AND l.remaining > 0 AND l.reservation_id <> ALL(%s)
    ORDER BY l.expires_at LIMIT 1
) AS due
"""
_SAVE = f"""
INSERT INTO reservations ({COLUMNS})
SELECT {COLUMNS} FROM json_to_recordset(%s) AS new (
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
SELECT {LINE_COLUMNS} FROM json_to_recordset(%s) AS new (
    reservation_id uuid, line integer, position bigint, sku text, sn text, quantity bigint, released bigint,
    purchased bigint, returned bigint, remaining bigint, expires_at timestamptz
)
ON CONFLICT (reservation_id, line) DO UPDATE SET
    released = excluded.released,
    purchased = excluded.purchased,
    returned = excluded.returned,
    remaining = excluded.remaining,
    expires_at = excluded.expires_at
"""

# In order of the index on open reservations: a probe of its beginning, whatever their number.
_DUE = """
SELECT reservation_id, extract(epoch FROM expires_at - statement_timestamp())::float8
FROM reservations WHERE state = 'open' ORDER BY expires_at LIMIT %s
"""
_LAG = """
SELECT count(*), coalesce(extract(epoch FROM statement_timestamp() - min(expires_at)), 0)::float8
FROM (
    SELECT expires_at FROM reservations
    WHERE state = 'open' AND expires_at <= statement_timestamp() ORDER BY expires_at LIMIT %s
) AS overdue
"""
_NOW = f"SELECT head.position, statement_timestamp() FROM {HEAD} AS head"
_GET = f"SELECT {COLUMNS} FROM reservations WHERE reservation_id = %(reservation_id)s"
# `where` is put together from the constants below; values are parameters.
_PAGE = f"SELECT {COLUMNS} FROM reservations WHERE position > %(after)s{{where}} ORDER BY position LIMIT %(limit)s"
_FILTERS = {
    "state": "CASE WHEN state = 'open' AND expires_at <= statement_timestamp() THEN 'expired' ELSE state END = %(state)s",
    "owner": "md5(owner) = md5(%(owner)s) AND owner = %(owner)s",
    "sku": "position IN (SELECT position FROM reservation_lines WHERE sku = %(sku)s)",
}


def ask(conn: Connection, reservations: Sequence[UUID]) -> Callable[[Books], None]:
    wanted = list(reservations)
    heads, lines = conn.execute(_LOAD, [wanted]), conn.execute(LOAD_LINES, [wanted])

    def fill(books: Books) -> None:
        found = {r.reservation_id: r for r in assemble(heads, lines)}
        for reservation_id in wanted:
            books.reservations.setdefault(reservation_id, found.get(reservation_id))

    return fill


def assemble(heads: Iterable[Sequence[Any]], lines: Iterable[Sequence[Any]]) -> Iterator[Reservation]:
    """Reservations from rows of COLUMNS and of LOAD_LINES, in the order of the heads."""
    of: dict[UUID, dict[str, HeldLine]] = {}
    for reservation_id, *line in lines:
        held = HeldLine(*line)
        of.setdefault(reservation_id, {})[line_key(held.sku, held.sn)] = held
    for head in heads:
        yield Reservation(*(*head, of[head[0]]))


def holders(conn: Connection, items: Collection[tuple[str, str]]) -> list[UUID]:
    """The reservations that hold any of the items."""
    rows = conn.execute(_HOLDERS, [[sku for sku, _ in items], [sn for _, sn in items]])
    return [row[0] for row in rows]


def overdue(conn: Connection, skus: Collection[str], now: datetime, limit: int) -> list[UUID]:
    """Open reservations on fungible `skus` that are over at `now`, the longest overdue first."""
    return [row[0] for row in conn.execute(_OVERDUE, [list(skus), now, limit])]


def first_due(conn: Connection, skus: Collection[str], but: Collection[UUID]) -> dict[str, Due]:
    """The open hold on each fungible SKU that ends first, leaving out the reservations `but`."""
    rows = conn.execute(_FIRST_DUE, [list(skus), list(but)])
    return {sku: Due(expires_at, reservation_id) for sku, expires_at, reservation_id in rows}


def due(conn: Connection, limit: int) -> tuple[list[UUID], float | None]:
    """Open reservations that are over by the clock, the longest overdue first, and seconds until the next one is.

    The latter is None when none is open beyond these, and 0 when there are more than `limit`.
    """
    rows = conn.execute(_DUE, [limit + 1]).fetchall()
    over = [reservation_id for reservation_id, seconds in rows if seconds <= 0]
    upcoming = [seconds for _, seconds in rows if seconds > 0]
    return over[:limit], 0.0 if len(over) > limit else min(upcoming, default=None)


class Lag(NamedTuple):
    """Reservations that are over but not written down as such: how many (counted to a limit), and since when."""

    overdue: int
    seconds: float


def lag(conn: Connection) -> Lag:
    row = conn.execute(_LAG, [MAX_COUNTED]).fetchone()
    assert row is not None, "an aggregate has a row"
    return Lag(*row)


def get(conn: Connection, reservation_id: UUID) -> tuple[int, datetime, Reservation | None]:
    """The log position, the time, and the reservation."""
    position, now, found = _select(conn, _GET, {"reservation_id": reservation_id})
    return position, now, found[0] if found else None


def page(
    conn: Connection, after: int, limit: int, *, state: str | None, owner: str | None, sku: str | None
) -> tuple[int, datetime, list[Reservation]]:
    """The log position, the time, and reservations in the order they were made, with what is not None as filter."""
    given = {"state": state, "owner": owner, "sku": sku}
    where = "".join(f" AND {_FILTERS[column]}" for column, value in given.items() if value is not None)
    return _select(conn, _PAGE.format(where=where), {"after": after, "limit": limit, **given})


def _select(conn: Connection, query: str, parameters: dict[str, Any]) -> tuple[int, datetime, list[Reservation]]:
    """The head first, so that a reader who is told a position sees all that happened up to it."""
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        now = conn.execute(_NOW).fetchone()
        heads = conn.execute(query.encode(), parameters).fetchall()
        lines = conn.execute(LOAD_LINES, [[head[0] for head in heads]]) if heads else ()
        found = list(assemble(heads, lines))
    assert now is not None, "the head is always there"
    return now[0], now[1], found


def save(conn: Connection, reservations: Collection[Reservation]) -> None:
    conn.execute(_SAVE, [as_json([_head(r) for r in reservations])])
    conn.execute(_SAVE_LINES, [as_json([line for r in reservations for line in _lines(r)])])


def _head(r: Reservation) -> dict[str, Any]:
    return {name: getattr(r, name) for name in COLUMNS.split(", ")}


def _lines(r: Reservation) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(r.lines.values()):
        yield {
            "reservation_id": r.reservation_id,
            "line": number,
            "position": r.position,
            "sku": line.sku,
            "sn": line.sn or "",
            "quantity": line.quantity,
            "released": line.released,
            "purchased": line.purchased,
            "returned": line.returned,
            "remaining": line.remaining,
            "expires_at": r.expires_at,
        }
