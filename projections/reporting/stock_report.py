"""What there is of each product, fungible or not: now from the read models, at a past position from the log.

Now, a hold that is over by the clock counts as over. At a position nothing is adjusted: it is what the log said then.
"""

# Also the view `stock` (`reporting`).
NOW = """
SELECT
    p.sku,
    p.name,
    p.kind,
    level.on_hand AS amount_in_stock,
    level.reserved AS reserved_quantity,
    level.on_hand - level.reserved AS available_quantity,
    CASE p.kind WHEN 'fungible' THEN p.unit_price_cents END AS unit_price_cents,
    level.cents AS value_cents
FROM products AS p
LEFT JOIN stock_levels AS s ON s.sku = p.sku
LEFT JOIN (
    SELECT sku, sum(remaining)::bigint AS quantity FROM reservation_lines
    WHERE sn = '' AND remaining > 0 AND expires_at <= now()
    GROUP BY sku
) AS lapsed ON lapsed.sku = p.sku
LEFT JOIN (
    SELECT
        sku,
        count(*) AS on_hand,
        count(*) FILTER (WHERE reserved_until > now()) AS reserved,
        sum(price_cents::numeric) AS cents
    FROM items WHERE NOT sold
    GROUP BY sku
) AS i ON i.sku = p.sku
CROSS JOIN LATERAL (
    SELECT
        coalesce(s.on_hand, i.on_hand, 0) AS on_hand,
        coalesce(s.reserved - coalesce(lapsed.quantity, 0), i.reserved, 0) AS reserved,
        coalesce(s.on_hand::numeric * p.unit_price_cents, i.cents, 0) AS cents
) AS level
"""

# The last event of `stream` up to the position, of those that `which` chooses.
_LAST = """
    SELECT topic, convert_from(state, 'UTF8')::jsonb AS data FROM stored_events
    WHERE originator_id = {stream} AND notification_id <= %(position)s{which}
    ORDER BY notification_id DESC LIMIT 1
"""
_PRODUCT, _STOCK, _ITEM = "'product/' || p.sku", "'stock/main/' || p.sku", "'item/' || i.sku || '/' || i.sn"


def _last(stream: str, *, member: str = "") -> str:
    """With `member`, the last event that says what that was; without, the last that is not about how an item looks."""
    has = f" AND convert_from(state, 'UTF8')::jsonb ? '{member}'" if member else " AND topic <> 'ItemRevised.v1'"
    return _LAST.format(stream=stream, which=has)


# A few look-ups in the index of each stream, however long the log is. Members that were never given have defaults.
AT = f"""
SELECT
    p.sku,
    named.data ->> 'name' AS name,
    p.kind,
    level.on_hand AS amount_in_stock,
    level.reserved AS reserved_quantity,
    level.on_hand - level.reserved AS available_quantity,
    CASE p.kind WHEN 'fungible' THEN coalesce((priced.data ->> 'unit_price_cents')::bigint, 0) END AS unit_price_cents,
    level.cents AS value_cents
FROM products AS p
JOIN stored_events AS registered
    ON registered.originator_id = {_PRODUCT} AND registered.originator_version = 1
    AND registered.notification_id <= %(position)s
LEFT JOIN LATERAL ({_last(_PRODUCT, member="name")}) AS named ON true
LEFT JOIN LATERAL ({_last(_PRODUCT, member="unit_price_cents")}) AS priced ON true
LEFT JOIN LATERAL ({_last(_STOCK)}) AS s ON p.kind = 'fungible'
LEFT JOIN LATERAL (
    SELECT
        count(*) AS on_hand,
        count(*) FILTER (WHERE last.topic IN ('ItemReserved.v1', 'ItemReservationExtended.v1')) AS reserved,
        sum((priced.data ->> 'price_cents')::numeric) AS cents
    FROM items AS i
    CROSS JOIN LATERAL ({_last(_ITEM)}) AS last
    LEFT JOIN LATERAL ({_last(_ITEM, member="price_cents")}) AS priced ON true
    WHERE i.sku = p.sku AND last.topic <> 'ItemPurchased.v1'
) AS i ON p.kind = 'non-fungible'
CROSS JOIN LATERAL (
    SELECT
        coalesce((s.data ->> 'on_hand')::bigint, i.on_hand, 0) AS on_hand,
        coalesce((s.data ->> 'reserved')::bigint, i.reserved, 0) AS reserved,
        coalesce(i.cents, (s.data ->> 'on_hand')::numeric * (priced.data ->> 'unit_price_cents')::numeric, 0) AS cents
) AS level
"""
