-- What a request with an Idempotency-Key recorded, and where: enough to make its answer again from the log, in a seventh
-- of the space that the answer took. Keys of before keep their whole answer in idempotency_keys until their days are over.
CREATE TABLE idempotent_requests (
    position bigint NOT NULL,  -- of the log, right after the command was decided
    created_at timestamptz NOT NULL,
    recorded integer NOT NULL,  -- so many entries, the last of them at that position
    scope uuid PRIMARY KEY,  -- 128 bits of a digest of the caller and the key
    request uuid NOT NULL  -- 128 bits of the digest of the request
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
-- Rows come in the order of time, so a few bytes for many pages tell which are old.
CREATE INDEX idempotent_requests_created_at ON idempotent_requests USING brin (created_at) WITH (pages_per_range = 16);
