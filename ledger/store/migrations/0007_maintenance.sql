-- The log may be changed by its owner alone, in a transaction that has said why, and each such statement is written
-- down. The service's own role can do none of it, whatever it says (ledger/store/roles.py).

CREATE TABLE maintenance_log (
    entry bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    done_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_by text NOT NULL DEFAULT session_user,
    operation text NOT NULL,
    statement text NOT NULL,
    reason text NOT NULL
);

-- Call it in the transaction that changes the log. The transaction's number is kept with the reason, so that a setting
-- left over in a session opens nothing later.
CREATE FUNCTION allow_maintenance(reason text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(btrim(reason), '') = '' THEN
        RAISE EXCEPTION 'a reason must be given';
    END IF;
    PERFORM set_config('stockledger.maintenance', pg_current_xact_id()::text || ' ' || btrim(reason), true);
END
$$;

REVOKE EXECUTE ON FUNCTION allow_maintenance FROM PUBLIC;

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    allowed text := coalesce(current_setting('stockledger.maintenance', true), '');
    owner oid := (SELECT relowner FROM pg_catalog.pg_class WHERE oid = TG_RELID);
BEGIN
    IF split_part(allowed, ' ', 1) IS DISTINCT FROM pg_current_xact_id_if_assigned()::text
        OR NOT pg_has_role(current_user, owner, 'USAGE')
    THEN
        RAISE EXCEPTION 'the log is append-only: % on % is refused', TG_OP, TG_TABLE_NAME;
    END IF;
    EXECUTE format('INSERT INTO %I.maintenance_log (operation, statement, reason) VALUES ($1, $2, $3)', TG_TABLE_SCHEMA)
    USING TG_OP, left(current_query(), 10000), substr(allowed, strpos(allowed, ' ') + 1);
    RAISE WARNING '% on % under maintenance by %', TG_OP, TG_TABLE_NAME, session_user;
    RETURN NULL;
END
$$;

CREATE FUNCTION refuse_any_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: it is never changed', TG_OP, TG_TABLE_NAME;
END
$$;

CREATE TRIGGER maintenance_log_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON maintenance_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_any_change();

-- Also where session_replication_role switches ordinary triggers off.
ALTER TABLE stored_events ENABLE ALWAYS TRIGGER stored_events_append_only;
ALTER TABLE maintenance_log ENABLE ALWAYS TRIGGER maintenance_log_append_only;
