"""New tables beside the live ones: made like them, compared with them, and put in their place in one short moment.

What is new lives in the schema `<schema>_rebuild`; what was replaced waits in `<schema>_rebuild_old` to be dropped.
Either is dropped and begun anew by the next run, so nothing is left of a run that was killed.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from psycopg import sql

from ledger.store.connection import BoundedConnection, Connection
from ledger.store.roundtrip import transaction

# Keys that are named of rows that differ.
MAX_KEYS = 5
# All other readers and writers of a table queue behind us while we wait for one of them: not for long.
LOCK_MILLISECONDS = 200

_TABLE = """
SELECT c.oid, coalesce(array_to_string(c.reloptions, ', '), ''), pg_get_userbyid(c.relowner), current_user,
    EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND c.relkind = 'r'
"""
# A constraint's own name, so that migrations that name it go on to find it.
_CONSTRAINTS = """
SELECT contype = 'p', conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = %s AND contype IN ('p', 'u') ORDER BY contype, conname
"""
_INDEXES = """
SELECT c.relname, i.indisunique, pg_get_indexdef(i.indexrelid)
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE i.indrelid = %s AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)
ORDER BY c.relname
"""
_PRIVILEGES = """
SELECT pg_get_userbyid(grantee), grantee = 0, privilege_type, is_grantable, NULL AS attname
FROM pg_class, aclexplode(relacl) WHERE oid = %(table)s
UNION ALL
SELECT pg_get_userbyid(grantee), grantee = 0, privilege_type, is_grantable, attname
FROM pg_attribute, aclexplode(attacl) WHERE attrelid = %(table)s
"""
_COMMENT = "SELECT obj_description(%s, 'pg_class')"
_KEY = """
SELECT a.attname FROM pg_index AS i
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (number, place)
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
WHERE i.indrelid = %s AND i.indisprimary ORDER BY k.place
"""
_COMPARE = sql.SQL("""
WITH different AS MATERIALIZED (
    SELECT concat_ws('/', {key}) AS key FROM {live} AS live FULL JOIN {new} AS new USING ({key})
    WHERE ROW(live.*) IS DISTINCT FROM ROW(new.*)
)
SELECT (SELECT count(*) FROM different), ARRAY(SELECT key FROM different ORDER BY key LIMIT {limit})
""")
# Views are bound to the table, not to its name. With an empty search path every name in their text is complete.
_VIEWS = """
SELECT DISTINCT n.nspname, v.relname, coalesce(array_to_string(v.reloptions, ', '), ''), pg_get_viewdef(v.oid)
FROM pg_depend AS d
JOIN pg_rewrite AS r ON r.oid = d.objid
JOIN pg_class AS v ON v.oid = r.ev_class AND v.relkind = 'v'
JOIN pg_namespace AS n ON n.oid = v.relnamespace
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY(%s)
"""


class UnfitTableError(Exception):
    """A table that cannot be replaced as it stands."""


class Different(NamedTuple):
    """How many rows of a table are not equal in live and new, or only in one of them; `keys` names the first."""

    rows: int
    keys: list[str]


class ShadowTables:
    """The new tables of one ledger. Every method runs its statements on the connection that it is given."""

    def __init__(self, schema: str) -> None:
        self._live = schema
        self.new, self._old = f"{schema}_rebuild", f"{schema}_rebuild_old"
        self._keyed: set[str] = set()

    def drop(self, conn: Connection) -> None:
        for schema in (self.new, self._old):
            conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))

    def create(self, conn: Connection, tables: Sequence[str]) -> None:
        """Empty tables; `add_keys` and `finish` give them keys and indexes, sooner made when the rows are there."""
        for schema in (self.new, self._old):
            conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        for table in tables:
            _, options, _, _, _ = self._described(conn, table)
            statement = sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING INDEXES){}").format(
                self._name(table),
                sql.Identifier(self._live, table),
                sql.SQL(f" WITH ({options})" if options else ""),
            )
            conn.execute(statement)

    def add_keys(self, conn: Connection, tables: Iterable[str]) -> None:
        """Give those tables their primary keys that have none yet: rows are found by them."""
        for table in tables:
            if table not in self._keyed:
                self._constrain(conn, table, self._described(conn, table)[0], primary=True)
                self._keyed.add(table)

    def finish(self, conn: Connection, tables: Sequence[str]) -> None:
        """Everything that a full table needs before it can take the live one's place.

        Raises UnfitTableError for one that has triggers of its own, or of which this login is not the owner.
        """
        self.add_keys(conn, tables)
        for table in tables:
            oid, _, owner, user, has_triggers = self._described(conn, table)
            if has_triggers:
                raise UnfitTableError(f"table {table} has triggers, which a rebuild would lose")
            self._constrain(conn, table, oid, primary=False)
            for name, unique, definition in conn.execute(_INDEXES, [oid]).fetchall():
                kind, using = "UNIQUE INDEX" if unique else "INDEX", definition.partition(" USING ")[2]
                statement = sql.SQL("CREATE {} {} ON {} USING {}").format(
                    sql.SQL(kind), sql.Identifier(name), self._name(table), sql.SQL(using)
                )
                conn.execute(statement)
            self._describe(conn, table, oid)
            if owner != user:
                statement = sql.SQL("ALTER TABLE {} OWNER TO {}").format(self._name(table), sql.Identifier(owner))
                conn.execute(statement)
            conn.execute(sql.SQL("VACUUM (ANALYZE) {}").format(self._name(table)))

    def different(self, conn: Connection, table: str) -> Different:
        """Compare live and new as the connection's transaction sees them."""
        oid, *_ = self._described(conn, table)
        key = sql.SQL(", ").join(sql.Identifier(row[0]) for row in conn.execute(_KEY, [oid]).fetchall())
        query = _COMPARE.format(
            key=key, live=sql.Identifier(self._live, table), new=self._name(table), limit=sql.Literal(MAX_KEYS)
        )
        row = conn.execute(query).fetchone()
        assert row is not None, "a count has a row"
        return Different(*row)

    def make_way(self, conn: BoundedConnection, tables: Sequence[str]) -> None:
        """Have autovacuum let go of the live tables, which it does for whoever waits; nobody else is kept waiting."""
        with transaction(conn):
            conn.execute("SELECT set_config('lock_timeout', '10s', true)")
            conn.execute(self._lock(tables, "SHARE UPDATE EXCLUSIVE"))

    def swap(self, conn: Connection, tables: Sequence[str]) -> None:
        """Put the new tables in the place of the live ones, and bind the views on them anew; the caller commits.

        Raises psycopg.errors.LockNotAvailable when others hold a live table for longer than LOCK_MILLISECONDS.
        """
        conn.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_MILLISECONDS}ms"])
        conn.execute("SELECT set_config('synchronous_commit', 'on', true)")  # with it, all before it is on disk
        oids = [self._described(conn, table)[0] for table in tables]
        path = conn.execute("SELECT current_setting('search_path')").fetchone()
        assert path is not None, "there is always a search path"
        conn.execute("SELECT set_config('search_path', '', true)")
        views = conn.execute(_VIEWS, [oids]).fetchall()
        conn.execute(self._lock(tables, "ACCESS EXCLUSIVE"))
        for table in tables:
            move = sql.SQL("ALTER TABLE {} SET SCHEMA {}")
            conn.execute(move.format(sql.Identifier(self._live, table), sql.Identifier(self._old)))
            conn.execute(move.format(self._name(table), sql.Identifier(self._live)))
        for schema, view, options, definition in views:
            statement = sql.SQL("CREATE OR REPLACE VIEW {}{} AS {}").format(
                sql.Identifier(schema, view), sql.SQL(f" WITH ({options})" if options else ""), sql.SQL(definition)
            )
            conn.execute(statement)
        conn.execute("SELECT set_config('search_path', %s, true)", [path[0]])

    def _lock(self, tables: Sequence[str], mode: str) -> sql.Composed:
        names = sql.SQL(", ").join(sql.Identifier(self._live, table) for table in tables)
        return sql.SQL("LOCK TABLE {} IN {} MODE").format(names, sql.SQL(mode))

    def _constrain(self, conn: Connection, table: str, oid: int, *, primary: bool) -> None:
        for is_primary, name, definition in conn.execute(_CONSTRAINTS, [oid]).fetchall():
            if is_primary == primary:
                statement = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}")
                conn.execute(statement.format(self._name(table), sql.Identifier(name), sql.SQL(definition)))

    def _describe(self, conn: Connection, table: str, oid: int) -> None:
        """The live table's comment and privileges; its columns' comments are there since `create`."""
        comment = conn.execute(_COMMENT, [oid]).fetchone()
        if comment is not None and comment[0] is not None:
            conn.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(self._name(table), sql.Literal(comment[0])))
        for grantee, is_public, privilege, grantable, column in conn.execute(_PRIVILEGES, {"table": oid}).fetchall():
            statement = sql.SQL("GRANT {}{} ON {} TO {}{}").format(
                sql.SQL(privilege),
                sql.SQL(" ({})").format(sql.Identifier(column)) if column else sql.SQL(""),
                self._name(table),
                sql.SQL("PUBLIC") if is_public else sql.Identifier(grantee),
                sql.SQL(" WITH GRANT OPTION" if grantable else ""),
            )
            conn.execute(statement)

    def _described(self, conn: Connection, table: str) -> tuple[int, str, str, str, bool]:
        row = conn.execute(_TABLE, [self._live, table]).fetchone()
        if row is None:
            raise UnfitTableError(f"there is no table {table} in schema {self._live}")
        return row[0], row[1], row[2], row[3], row[4]

    def _name(self, table: str) -> sql.Identifier:
        return sql.Identifier(self.new, table)
