"""One of several processes leads: it holds a lock of its session, which ends with its connection."""

from ledger.store.connection import BoundedConnection, connect, lock_key
from ledger.store.roundtrip import ask_one

_LEAD = "SELECT pg_try_advisory_lock($1)"


def lead(url: str, schema: str, purpose: str, *, answer_seconds: float) -> BoundedConnection | None:
    """The connection of whoever leads in `purpose` from now on, for as long as it lives; None while another leads.

    `answer_seconds` bounds each wait on it: a database that has stopped without a word must not keep a process.
    Raises psycopg.OperationalError.
    """
    conn = connect(url, schema, f"stockledger {purpose}")
    conn.answer_seconds = answer_seconds
    leads = False
    try:
        ((leads,),) = ask_one(conn, _LEAD, lock_key(schema, purpose))
        return conn if leads else None
    finally:
        if not leads:
            conn.close()
