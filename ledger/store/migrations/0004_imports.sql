-- How far each file has been imported, written in the transaction of the events that its rows became: a row of a file
-- is settled if and only if it is counted here. Events name their row: request_id is 'import:<import_id>:<line>'.
-- import_id comes of the file's content and of what its rows were taken to mean, which `meaning` says.
CREATE TABLE imports (
    import_id text COLLATE "C" PRIMARY KEY,
    file text NOT NULL,
    meaning jsonb NOT NULL,
    settled bigint NOT NULL,
    rejected bigint NOT NULL,
    events bigint NOT NULL,
    rejects_bytes bigint NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL,
    finished_at timestamptz,
    CHECK (0 <= rejected AND rejected <= settled)
);
