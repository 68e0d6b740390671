-- What was asked for and refused, by day and SKU: counters, since a refusal is no fact of the ledger.
-- They are written in the transaction that refused, but are no part of the log: a request that is repeated counts again,
-- as a refusal is not kept for its Idempotency-Key; a transaction without events that is tried again after a lost
-- connection may count twice; and a power cut may undo the last moments of a day on which nothing else was recorded.
CREATE TABLE shortages_daily (
    day date NOT NULL,
    sku text COLLATE "C" NOT NULL,
    requests bigint NOT NULL,
    requested numeric(40, 0) NOT NULL,
    short numeric(40, 0) NOT NULL,
    PRIMARY KEY (day, sku)
) WITH (fillfactor = 50);

CREATE INDEX shortages_daily_sku_idx ON shortages_daily (sku, day);

COMMENT ON TABLE shortages_daily IS 'Reservations that could not be made in full, by day and SKU; counters, not facts.';
COMMENT ON COLUMN shortages_daily.day IS 'UTC date of the refusal.';
COMMENT ON COLUMN shortages_daily.sku IS 'The product that there was not enough of.';
COMMENT ON COLUMN shortages_daily.requests IS 'Requests that were short of it; a repeat counts again.';
COMMENT ON COLUMN shortages_daily.requested IS 'Units that they asked for; an item is one unit.';
COMMENT ON COLUMN shortages_daily.short IS 'Units of these that were not available.';
