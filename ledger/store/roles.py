"""Who may do what in the database: the service's own role, and one that may only read reports.

The owner of the schema migrates and maintains. The service works as `<schema>_service`, which can add to the log but
never change it; reporting jobs read as `<schema>_reporting`, which sees the reporting schema and nothing else. Roles
belong to the whole server: ledgers of one name in two of its databases share theirs.
"""

import logging

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.store.connection import Connection, connect

logger = logging.getLogger(__name__)

# What the service may do with each table, by name; it may do nothing with one that is not here.
RIGHTS = {
    "stored_events": "SELECT, INSERT",
    "products": "SELECT, INSERT, UPDATE",
    "stock_levels": "SELECT, INSERT, UPDATE",
    "items": "SELECT, INSERT, UPDATE",
    "reservations": "SELECT, INSERT, UPDATE",
    "reservation_lines": "SELECT, INSERT, UPDATE",
    "fulfilment_requests": "SELECT, INSERT, UPDATE",
    "shortages_daily": "SELECT, INSERT, UPDATE",
    "following": "SELECT, INSERT, UPDATE",
    "movements_daily": "SELECT, INSERT, UPDATE",
    "valuations_daily": "SELECT, INSERT, UPDATE",
    "valued_products": "SELECT, INSERT, UPDATE",
    "valued_items": "SELECT, INSERT, UPDATE",
    "idempotency_keys": "SELECT, INSERT, DELETE",
    "idempotent_requests": "SELECT, INSERT, DELETE",
    "imports": "SELECT, INSERT, UPDATE",
    "api_keys": "SELECT, UPDATE (last_used_at)",
    "schema_migrations": "SELECT",
    "maintenance_log": "",
}
# A report that takes longer is better asked for in parts.
REPORTING_STATEMENT_TIMEOUT = "10min"

_TABLES = """
SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relkind IN ('r', 'p')
"""
_KNOWN = "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)"
_MAY_CREATE = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
# Two databases of one server may do this at the same time; settings are those of a session that logs in as the role.
_CREATE_SERVICE = sql.SQL("""
DO $$ BEGIN
    CREATE ROLE {role} NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
""")
_CREATE_REPORTING = sql.SQL("""
DO $$ BEGIN
    CREATE ROLE {role} NOLOGIN;
    ALTER ROLE {role} SET default_transaction_read_only = on;
    ALTER ROLE {role} SET statement_timeout = {timeout};
    ALTER ROLE {role} SET search_path = {schema};
    ALTER ROLE {role} SET timezone = 'UTC';
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
""")
_IS_SUPERUSER = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
_IS_MEMBER = "SELECT pg_has_role(current_user, oid, %s) FROM pg_roles WHERE rolname = %s"
_SET_SINCE = 160_000  # PostgreSQL's version; before, every member of a role could become it


def service_role(schema: str) -> str:
    return f"{schema}_service"


def reporting_role(schema: str) -> str:
    return f"{schema}_reporting"


def reporting_schema(schema: str) -> str:
    """The schema of views for reporting jobs: `reporting` for the ledger that is named as we name it."""
    return "reporting" if schema == "stockledger" else f"{schema}_reporting"


def grant(conn: Connection, schema: str) -> bool:
    """Create the ledger's roles where this login may, and give the service's role its rights anew.

    Call it in a transaction, after tables were made. False if there are no such roles: the service then works as the
    owner of its tables.
    """
    if not _create(conn, schema):
        return False
    service, where = sql.Identifier(service_role(schema)), sql.Identifier(schema)
    statements = [sql.SQL("REVOKE ALL ON SCHEMA {} FROM {}").format(where, service)]
    statements.append(sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA {} FROM {}").format(where, service))
    statements.append(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(where, service))
    for (table,) in conn.execute(_TABLES, [schema]).fetchall():
        if rights := RIGHTS.get(table):
            on = sql.Identifier(schema, table)
            statements.append(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(rights), on, service))
    conn.execute(sql.SQL("; ").join(statements), prepare=False)
    return True


def service_url(url: str, schema: str) -> str:
    """Connection parameters like `url`, but for the service's role where there is one that this login may take."""
    role = service_role(schema)
    with connect(url, schema, "stockledger roles") as conn:
        privilege = "SET" if conn.info.server_version >= _SET_SINCE else "MEMBER"
        member = conn.execute(_IS_MEMBER, [privilege, role]).fetchone()
    if member is None or not member[0]:
        logger.warning("the service works as the owner of its tables: role %s is not there or not this login's", role)
        return url
    options = conninfo_to_dict(url).get("options") or ""
    return make_conninfo(url, options=f"{options} -c role={role}".strip())


def _create(conn: Connection, schema: str) -> bool:
    """Whether both roles are there now."""
    service, reporting = service_role(schema), reporting_role(schema)
    missing = {service, reporting} - {row[0] for row in conn.execute(_KNOWN, [[service, reporting]])}
    if not missing:
        return True
    if not _is_so(conn, _MAY_CREATE):
        logger.warning("this login may not create roles, and there is no %s", ", ".join(sorted(missing)))
        return False
    if service in missing:
        conn.execute(_CREATE_SERVICE.format(role=sql.Identifier(service)), prepare=False)
        if not _is_so(conn, _IS_SUPERUSER):  # who may become anyone anyway
            conn.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(service)), prepare=False)
    if reporting in missing:
        names = {"role": sql.Identifier(reporting), "schema": sql.Identifier(reporting_schema(schema))}
        create = _CREATE_REPORTING.format(**names, timeout=sql.Literal(REPORTING_STATEMENT_TIMEOUT))
        conn.execute(create, prepare=False)
    return True


def _is_so(conn: Connection, question: str) -> bool:
    row = conn.execute(question.encode()).fetchone()
    return row is not None and bool(row[0])
