"""The reports: what columns each has, and the query that makes its rows.

Never here: reading them (`report_reader`), their forms on the wire and in files (`api.reporting`).
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Literal

from msgspec import Struct

from projections.reporting import stock_report
from projections.reservations.reservations import STATE

Kind = Literal["text", "day", "integer", "cents", "ratio"]


class Column(Struct, frozen=True):
    """`integer` fits 64 bit, `cents` may be larger; a `ratio` is a fraction of one."""

    name: str
    kind: Kind


class Report(Struct, frozen=True, kw_only=True):
    """A query with what it asks for.

    `following` names the read model that it is made of if that is a following one, `position` the place in the log that
    it is about if that is a past one.
    """

    name: str
    columns: Sequence[Column]
    query: str
    parameters: Mapping[str, Any]
    following: str | None = None
    position: int | None = None


class Days(Struct, frozen=True):
    """UTC days from `first` to `last`, both among them."""

    first: date
    last: date

    def parameters(self) -> dict[str, Any]:
        return {"first": self.first, "last": self.last}


_DAY, _SKU = Column("day", "day"), Column("sku", "text")
_MOVED = ("added", "removed", "reserved", "released", "expired", "purchased", "returned", "events")
_SHORT = ("requests", "requested", "short")

_STOCK = (
    _SKU,
    Column("name", "text"),
    Column("kind", "text"),
    Column("amount_in_stock", "integer"),
    Column("reserved_quantity", "integer"),
    Column("available_quantity", "integer"),
    Column("unit_price_cents", "integer"),
    Column("value_cents", "cents"),
)

_RESERVATIONS = f"""
SELECT
    day,
    count(*),
    count(*) FILTER (WHERE state = 'purchased'),
    count(*) FILTER (WHERE state = 'released'),
    count(*) FILTER (WHERE state = 'expired'),
    count(*) FILTER (WHERE state = 'open'),
    round(count(*) FILTER (WHERE state = 'purchased')::numeric / count(*), 4)::float8
FROM (
    SELECT (created_at AT TIME ZONE 'UTC')::date AS day, {STATE.format(now="now()")} AS state
    FROM reservations
    WHERE created_at >= %(first)s::date::timestamp AT TIME ZONE 'UTC'
        AND created_at < (%(last)s::date + 1)::timestamp AT TIME ZONE 'UTC'
) AS made
GROUP BY day
ORDER BY day
"""

# A SKU's figures hold from their day until the day before its next ones.
_VALUATION_BY_SKU = """
SELECT days.day::date, sku, on_hand, reserved, on_hand_cents, reserved_cents
FROM (
    SELECT *, lead(day) OVER (PARTITION BY sku ORDER BY day) AS next
    FROM valuations_daily
    WHERE day <= %(last)s AND (%(sku)s::text IS NULL OR sku = %(sku)s)
) AS v
CROSS JOIN LATERAL generate_series(
    greatest(v.day, %(first)s::date)::timestamp,
    least(v.next - 1, %(last)s::date, (now() AT TIME ZONE 'UTC')::date)::timestamp,
    interval '1 day'
) AS days (day)
ORDER BY sku, days.day
"""
# Summed up as changes, so that each row is read once, however many days there are.
_VALUATION = """
SELECT
    days.day::date,
    sum(coalesce(on_hand, 0)) OVER running,
    sum(coalesce(reserved, 0)) OVER running,
    sum(coalesce(on_hand_cents, 0)) OVER running,
    sum(coalesce(reserved_cents, 0)) OVER running
FROM generate_series(
    %(first)s::date::timestamp,
    least(%(last)s::date, (now() AT TIME ZONE 'UTC')::date)::timestamp,
    interval '1 day'
) AS days (day)
LEFT JOIN (
    SELECT
        greatest(day, %(first)s::date)::timestamp AS day,
        sum(on_hand) AS on_hand,
        sum(reserved) AS reserved,
        sum(on_hand_cents) AS on_hand_cents,
        sum(reserved_cents) AS reserved_cents
    FROM (
        SELECT
            day,
            on_hand - lag(on_hand, 1, 0::bigint) OVER earlier AS on_hand,
            reserved - lag(reserved, 1, 0::bigint) OVER earlier AS reserved,
            on_hand_cents - lag(on_hand_cents, 1, 0::numeric) OVER earlier AS on_hand_cents,
            reserved_cents - lag(reserved_cents, 1, 0::numeric) OVER earlier AS reserved_cents
        FROM valuations_daily
        WHERE day <= %(last)s AND (%(sku)s::text IS NULL OR sku = %(sku)s)
        WINDOW earlier AS (PARTITION BY sku ORDER BY day)
    ) AS changes
    GROUP BY 1
) AS changed ON changed.day = days.day
WINDOW running AS (ORDER BY days.day)
ORDER BY days.day
"""


def stock(sku_prefix: str = "", position: int | None = None) -> Report:
    """What there is of each SKU: now, or as the log stood at a position."""
    source = stock_report.NOW if position is None else stock_report.AT
    query = f"{source} WHERE starts_with(p.sku, %(sku_prefix)s) ORDER BY p.sku"
    parameters = {"sku_prefix": sku_prefix, "position": position}
    return Report(name="stock", columns=_STOCK, query=query, parameters=parameters, position=position)


def movements(days: Days, by: Sequence[str], sku: str | None = None) -> Report:
    """Units that moved, summed by `day`, `sku` or both."""
    return _daily("movements", "movements_daily", _MOVED, days, by, sku, following="movements_daily")


def shortages(days: Days, by: Sequence[str], sku: str | None = None) -> Report:
    """What was asked for and refused, summed by `day`, `sku` or both."""
    return _daily("shortages", "shortages_daily", _SHORT, days, by, sku)


def reservations(days: Days) -> Report:
    """What became of the reservations that were made on each day."""
    counts = ("made", "purchased", "released", "expired", "open")
    columns = (_DAY, *(Column(name, "integer") for name in counts), Column("conversion", "ratio"))
    return Report(name="reservations", columns=columns, query=_RESERVATIONS, parameters=days.parameters())


def valuation(days: Days, by: Sequence[str], sku: str | None = None) -> Report:
    """What the stock was worth at the end of each day: in total by `day`, or by both `day` and `sku`."""
    by_sku = "sku" in by
    columns = (
        *((_DAY, _SKU) if by_sku else (_DAY,)),
        Column("amount_in_stock", "integer" if by_sku else "cents"),
        Column("reserved_quantity", "integer" if by_sku else "cents"),
        Column("value_cents", "cents"),
        Column("reserved_value_cents", "cents"),
    )
    return Report(
        name="valuation",
        columns=columns,
        query=_VALUATION_BY_SKU if by_sku else _VALUATION,
        parameters=days.parameters() | {"sku": sku},
        following="valuations_daily",
    )


def _daily(
    name: str,
    table: str,
    counts: Sequence[str],
    days: Days,
    by: Sequence[str],
    sku: str | None,
    following: str | None = None,
) -> Report:
    """A table of counts with the key (day, sku), summed; sums end at what 64 bits hold."""
    keys = [column for column in (_DAY, _SKU) if column.name in by]
    named = ", ".join(column.name for column in keys)
    sums = ", ".join(f"least(sum({count}), 9223372036854775807)::bigint" for count in counts)
    query = (
        f"SELECT {named}, {sums} FROM {table} WHERE day BETWEEN %(first)s AND %(last)s"
        f" AND (%(sku)s::text IS NULL OR sku = %(sku)s) GROUP BY {named} ORDER BY {named}"
    )
    return Report(
        name=name,
        columns=(*keys, *(Column(count, "integer") for count in counts)),
        query=query,
        parameters=days.parameters() | {"sku": sku},
        following=following,
    )
