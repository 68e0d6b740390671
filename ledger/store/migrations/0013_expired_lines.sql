-- Of what a line released, how much went back because the time was over: an expired cart can be held again and bought.

ALTER TABLE reservation_lines ADD COLUMN expired bigint NOT NULL DEFAULT 0;

UPDATE reservation_lines AS line SET expired = facts.quantity
FROM (
    SELECT reservation_id, sku, sn, sum(quantity) AS quantity
    FROM (
        SELECT
            convert_from(event_reservation(state), 'UTF8')::uuid AS reservation_id,
            CASE topic
                WHEN 'StockReleased.v1' THEN split_part(originator_id, '/', 3)
                ELSE split_part(originator_id, '/', 2)
            END AS sku,
            CASE topic WHEN 'StockReleased.v1' THEN '' ELSE split_part(originator_id, '/', 3) END AS sn,
            coalesce((convert_from(state, 'UTF8')::json ->> 'quantity')::bigint, 1) AS quantity
        FROM stored_events
        WHERE topic IN ('StockReleased.v1', 'ItemReleased.v1')
            AND convert_from(state, 'UTF8')::json ->> 'cause' = 'expired'
    ) AS released
    GROUP BY reservation_id, sku, sn
) AS facts
WHERE line.reservation_id = facts.reservation_id AND line.sku = facts.sku AND line.sn = facts.sn;
