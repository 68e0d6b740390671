-- Read models that are always current: written in the transaction that appends the events, by nothing else.

CREATE TABLE products (
    sku text COLLATE "C" PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('fungible', 'non-fungible')),
    name text,
    description text,
    color text,
    unit_price_cents bigint NOT NULL,
    shipping_weight_grams bigint NOT NULL,
    version bigint NOT NULL,
    registered_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE INDEX products_kind_idx ON products (kind, sku);

-- Room on each page lets a hot row be updated in place (HOT), so its index does not grow.
CREATE TABLE stock_levels (
    sku text COLLATE "C" PRIMARY KEY,
    on_hand bigint NOT NULL,
    reserved bigint NOT NULL,
    version bigint NOT NULL,
    updated_at timestamptz NOT NULL,
    CHECK (0 <= reserved AND reserved <= on_hand)
) WITH (fillfactor = 50);

CREATE TABLE items (
    sku text COLLATE "C" NOT NULL,
    sn text COLLATE "C" NOT NULL,
    color text,
    notes text,
    price_cents bigint NOT NULL,
    sold boolean NOT NULL,
    version bigint NOT NULL,
    updated_at timestamptz NOT NULL,
    reservation_id uuid,
    reserved_at timestamptz,
    reserved_until timestamptz,
    sold_under uuid,
    PRIMARY KEY (sku, sn)
) WITH (fillfactor = 80);

CREATE TABLE reservations (
    reservation_id uuid PRIMARY KEY,
    position bigint NOT NULL UNIQUE,
    state text NOT NULL CHECK (state IN ('open', 'released', 'expired', 'purchased')),
    owner text,
    reference text,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    fingerprint text,
    remaining bigint NOT NULL
) WITH (fillfactor = 80);

-- An owner may be longer than an index entry can be.
CREATE INDEX reservations_owner_idx ON reservations (md5(owner), position) WHERE owner IS NOT NULL;
CREATE INDEX reservations_due_idx ON reservations (expires_at) WHERE state = 'open';

-- sn is '' for a quantity of a fungible product. remaining = quantity - released - purchased.
CREATE TABLE reservation_lines (
    reservation_id uuid NOT NULL,
    line integer NOT NULL,
    position bigint NOT NULL,
    sku text COLLATE "C" NOT NULL,
    sn text COLLATE "C" NOT NULL,
    quantity bigint NOT NULL,
    released bigint NOT NULL,
    purchased bigint NOT NULL,
    returned bigint NOT NULL,
    remaining bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (reservation_id, line)
) WITH (fillfactor = 80);

CREATE INDEX reservation_lines_sku_idx ON reservation_lines (sku, position);
CREATE INDEX reservation_lines_due_idx ON reservation_lines (sku, sn, expires_at) WHERE remaining > 0;
