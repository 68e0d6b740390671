-- Each entry is sealed: its digest is the SHA-256 of the digest before it and of its own line. The line is byte for byte
-- the one that /api/events sends and an export holds (ledger/store/lines.py); before the first entry are 32 zero bytes.

CREATE FUNCTION entry_line(entry stored_events) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
RETURN convert_to(
    '{"position":' || (entry).notification_id
    || ',"recorded_at":"' || to_char((entry).recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    || '","stream":' || to_json((entry).originator_id)
    || ',"version":' || (entry).originator_version
    || ',"event":' || to_json((entry).topic)
    || ',"data":', 'UTF8'
) || (entry).state || '\x7d'::bytea;

CREATE FUNCTION seal(before bytea, line bytea) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sha256(before || line);

-- For entries in order, as a window: the digest of each. The first one's line must have the digest before it in front.
CREATE AGGREGATE chain (line bytea) (SFUNC = seal, STYPE = bytea, INITCOND = '');

ALTER TABLE stored_events ADD COLUMN digest bytea;

-- What is in the log already is sealed as it stands, once, and that is written down like any other change to it.
DO $$
BEGIN
    IF EXISTS (SELECT FROM stored_events) THEN
        PERFORM allow_maintenance('migration 0011 seals the entries that are there');
        UPDATE stored_events AS entry SET digest = sealed.digest
        FROM (
            SELECT notification_id, chain(
                CASE WHEN number = 1 THEN decode(repeat('00', 32), 'hex') ELSE '' END || line
            ) OVER (ORDER BY notification_id) AS digest
            FROM (
                SELECT notification_id, entry_line(stored_events) AS line,
                    row_number() OVER (ORDER BY notification_id) AS number
                FROM stored_events
            ) AS lines
        ) AS sealed
        WHERE entry.notification_id = sealed.notification_id;
    END IF;
END
$$;

ALTER TABLE stored_events ALTER COLUMN digest SET NOT NULL;
