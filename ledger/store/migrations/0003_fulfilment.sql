-- One row for each purchase, for the fulfilment service to follow in the order of `position`.
-- lines: [{"sku", "quantity"} or {"sku", "sn"}].
CREATE TABLE fulfilment_requests (
    purchase_id uuid PRIMARY KEY,
    position bigint NOT NULL UNIQUE,
    requested_at timestamptz NOT NULL,
    reservation_id uuid,
    owner text,
    reference text,
    lines jsonb NOT NULL
);
