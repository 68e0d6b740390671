-- Keys of the HTTP API, as hashes. A name is given once and for all, because the log's actor is the name of a key.
CREATE TABLE api_keys (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    hash bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    scopes text[] NOT NULL CHECK (cardinality(scopes) > 0),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
) WITH (fillfactor = 50);

COMMENT ON TABLE api_keys IS 'Who may call the HTTP API; the keys themselves are not kept.';
COMMENT ON COLUMN api_keys.id IS 'Where the key''s requests are counted for its rate limit.';
COMMENT ON COLUMN api_keys.name IS 'The actor of the events that the key causes; never given again.';
COMMENT ON COLUMN api_keys.hash IS 'SHA-256 of the key.';
COMMENT ON COLUMN api_keys.scopes IS 'What it may do, such as read or stock:write.';
COMMENT ON COLUMN api_keys.created_at IS 'When it was made.';
COMMENT ON COLUMN api_keys.expires_at IS 'When it ends by itself; null: never.';
COMMENT ON COLUMN api_keys.revoked_at IS 'When it was revoked; null: it was not.';
COMMENT ON COLUMN api_keys.last_used_at IS 'Its last use, written some seconds later.';
