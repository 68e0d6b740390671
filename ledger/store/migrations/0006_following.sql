-- Read models that follow the log in a process of their own, in batches: rows and position in the same transaction.

CREATE TABLE following (
    name text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL DEFAULT 0 CHECK (position >= 0),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    failed_position bigint,
    error text,
    failed_at timestamptz,
    CHECK (num_nulls(failed_position, error, failed_at) IN (0, 3))
);

COMMENT ON TABLE following IS 'How far each following read model is, and what stopped it.';
COMMENT ON COLUMN following.name IS 'The read model, by the name of its main table.';
COMMENT ON COLUMN following.position IS 'Its rows reflect the log up to this position.';
COMMENT ON COLUMN following.updated_at IS 'When the position last moved, by the database''s clock.';
COMMENT ON COLUMN following.failed_position IS 'Position of the event that stopped it, above `position`; null while it runs.';
COMMENT ON COLUMN following.error IS 'Why that event cannot be applied; null while it runs.';
COMMENT ON COLUMN following.failed_at IS 'When that was last tried; null while it runs.';

CREATE TABLE movements_daily (
    day date NOT NULL,
    sku text COLLATE "C" NOT NULL,
    added bigint NOT NULL DEFAULT 0,
    removed bigint NOT NULL DEFAULT 0,
    reserved bigint NOT NULL DEFAULT 0,
    released bigint NOT NULL DEFAULT 0,
    expired bigint NOT NULL DEFAULT 0,
    purchased bigint NOT NULL DEFAULT 0,
    returned bigint NOT NULL DEFAULT 0,
    events bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (day, sku)
) WITH (fillfactor = 80);

CREATE INDEX movements_daily_sku_idx ON movements_daily (sku, day);

COMMENT ON TABLE movements_daily IS
    'Units that moved, by day and SKU; an item is one unit. A row for each day on which the log says anything of the SKU. '
    'A sum beyond 2^63 - 1 stays there.';
COMMENT ON COLUMN movements_daily.day IS 'UTC date on which the events were recorded.';
COMMENT ON COLUMN movements_daily.sku IS 'The product.';
COMMENT ON COLUMN movements_daily.added IS 'Units that came into stock; items added.';
COMMENT ON COLUMN movements_daily.removed IS 'Units that left stock other than by purchase.';
COMMENT ON COLUMN movements_daily.reserved IS 'Units that were put on hold.';
COMMENT ON COLUMN movements_daily.released IS 'Held units that were given back (cause cancelled).';
COMMENT ON COLUMN movements_daily.expired IS 'Held units whose time was over (cause expired).';
COMMENT ON COLUMN movements_daily.purchased IS 'Units that were bought.';
COMMENT ON COLUMN movements_daily.returned IS 'Bought units that came back into stock.';
COMMENT ON COLUMN movements_daily.events IS
    'Events of the SKU of whatever kind; summed over all rows, the position of this read model.';

CREATE TABLE valuations_daily (
    sku text COLLATE "C" NOT NULL,
    day date NOT NULL,
    on_hand bigint NOT NULL,
    reserved bigint NOT NULL,
    on_hand_cents numeric(40, 0) NOT NULL,
    reserved_cents numeric(40, 0) NOT NULL,
    PRIMARY KEY (sku, day)
) WITH (fillfactor = 80);

COMMENT ON TABLE valuations_daily IS
    'What the stock was worth at the end of a day. A row for each day on which the SKU''s stock, items or price '
    'changed; on the days between, the last row before holds.';
COMMENT ON COLUMN valuations_daily.sku IS 'The product.';
COMMENT ON COLUMN valuations_daily.day IS 'UTC date on which the events were recorded.';
COMMENT ON COLUMN valuations_daily.on_hand IS 'Units in stock, held ones among them; items not sold.';
COMMENT ON COLUMN valuations_daily.reserved IS 'Units on hold, until the log says that the hold is over.';
COMMENT ON COLUMN valuations_daily.on_hand_cents IS 'on_hand times the price at the end of that day; items at their own prices.';
COMMENT ON COLUMN valuations_daily.reserved_cents IS 'reserved times the price at the end of that day; items at their own prices.';

-- What the valuation has to remember of each SKU and item, to go on from. Written with its rows.
CREATE TABLE valued_products (
    sku text COLLATE "C" PRIMARY KEY,
    unit_price_cents bigint NOT NULL,
    on_hand bigint NOT NULL,
    reserved bigint NOT NULL,
    on_hand_cents numeric(40, 0) NOT NULL,
    reserved_cents numeric(40, 0) NOT NULL
) WITH (fillfactor = 50);

COMMENT ON TABLE valued_products IS
    'State of the read model valuations_daily: each SKU as of that model''s position. '
    'The cents are of its items; a fungible SKU is worth its units times unit_price_cents.';

CREATE TABLE valued_items (
    sku text COLLATE "C" NOT NULL,
    sn text COLLATE "C" NOT NULL,
    price_cents bigint NOT NULL,
    held boolean NOT NULL,
    sold boolean NOT NULL,
    PRIMARY KEY (sku, sn)
) WITH (fillfactor = 80);

COMMENT ON TABLE valued_items IS
    'State of the read model valuations_daily: each item as of that model''s position.';
