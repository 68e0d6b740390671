"""What PostgreSQL does for the same facts in plain SQL from a C client: pgbench, a transaction for each command.

Two ways a competent person would write it: `transaction` updates the stock row with its check, inserts the event and
commits, a statement at a time; `statement` does all of it in a single statement, which holds the row's lock for the
shortest time that SQL can. Neither keeps idempotency keys, nor a log whose positions appear in order, as the service
does: they are a mark to measure against, not a ledger.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from bench.measured import Histogram, Measured

GRACE_SECONDS = 60
SKUS = 1000

# The stock row is updated in place for ever: room on its page keeps the update from touching an index (HOT).
SCHEMA = """
DROP SCHEMA IF EXISTS bench_raw CASCADE;
CREATE SCHEMA bench_raw;
CREATE TABLE bench_raw.stock (
    sku text PRIMARY KEY,
    version bigint NOT NULL,
    on_hand bigint NOT NULL,
    reserved bigint NOT NULL,
    CHECK (reserved BETWEEN 0 AND on_hand)
) WITH (fillfactor = 50);
CREATE TABLE bench_raw.events (
    stream text NOT NULL,
    version bigint NOT NULL,
    name text NOT NULL,
    data bytea NOT NULL,
    position bigserial,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (stream, version)
);
CREATE UNIQUE INDEX events_position ON bench_raw.events (position);
CREATE TABLE bench_raw.reservations (
    id uuid PRIMARY KEY,
    sku text NOT NULL,
    quantity bigint NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX reservations_expires_at ON bench_raw.reservations (expires_at);
INSERT INTO bench_raw.stock
SELECT 'SKU-' || number, 1, 1000000000, 0 FROM generate_series(1, %(skus)s) AS number;
"""
DROP = "DROP SCHEMA IF EXISTS bench_raw CASCADE"

ADD = "on_hand = on_hand + 1, version = version + 1 WHERE sku = 'SKU-' || :n"
RESERVE = "reserved = reserved + 1, version = version + 1 WHERE sku = 'SKU-' || :n AND on_hand - reserved >= 1"
DATA = """convert_to('{{"actor":"anonymous","request_id":"5f0c2c36-8a0e-4c7c-9d0e-0d8f5b7f2a11","quantity":1,"on_hand":'
        || {on_hand} || ',"reserved":' || {reserved} || '}}', 'UTF8')"""

PICK = "\\set n random(1, :skus)\n"
TRANSACTION = (
    PICK
    + """BEGIN;
UPDATE bench_raw.stock SET {change} RETURNING version, on_hand, reserved \\gset
INSERT INTO bench_raw.events (stream, version, name, data)
VALUES ('stock/main/SKU-' || :n, :version, '{name}', {data});
{hold}COMMIT;
"""
)
HOLD = """INSERT INTO bench_raw.reservations (id, sku, quantity, expires_at)
VALUES (gen_random_uuid(), 'SKU-' || :n, 1, now() + interval '1 hour');
"""
STATEMENT = (
    PICK
    + """WITH moved AS (
    UPDATE bench_raw.stock SET {change} RETURNING sku, version, on_hand, reserved
){hold}
INSERT INTO bench_raw.events (stream, version, name, data)
SELECT 'stock/main/' || sku, version, '{name}', {data} FROM moved;
"""
)
HOLD_TOO = """, held AS (
    INSERT INTO bench_raw.reservations (id, sku, quantity, expires_at)
    SELECT gen_random_uuid(), sku, 1, now() + interval '1 hour' FROM moved
)"""
SENT = DATA.format(on_hand=":on_hand", reserved=":reserved")
MOVED = DATA.format(on_hand="on_hand", reserved="reserved")
SCRIPTS = {
    ("transaction", "add"): TRANSACTION.format(change=ADD, name="StockAdded.v1", data=SENT, hold=""),
    ("transaction", "reserve"): TRANSACTION.format(change=RESERVE, name="StockReserved.v1", data=SENT, hold=HOLD),
    ("statement", "add"): STATEMENT.format(change=ADD, name="StockAdded.v1", data=MOVED, hold=""),
    ("statement", "reserve"): STATEMENT.format(change=RESERVE, name="StockReserved.v1", data=MOVED, hold=HOLD_TOO),
}

RATE = re.compile(r"^tps = ([\d.]+) ", re.MULTILINE)
NONE = re.compile(r"^number of transactions actually processed: 0$", re.MULTILINE)
FAILED = re.compile(r"^number of failed transactions: (\d+)", re.MULTILINE)


class RawSqlError(Exception):
    """pgbench could not run, or lost clients on the way."""


@dataclass(frozen=True)
class RawSql:
    """pgbench against one database, as many clients as the service has connections."""

    url: str
    bin_dir: Path
    clients: int
    threads: int

    def prepare(self) -> None:
        """Create the schema `bench_raw` afresh, with stock for every SKU."""
        with psycopg.connect(self.url, autocommit=True) as connection, psycopg.ClientCursor(connection) as cursor:
            cursor.execute(SCHEMA, {"skus": SKUS})
            cursor.execute("ANALYZE bench_raw.stock")

    def drop(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(DROP)

    def measure(self, way: str, command: str, skus: int, seconds: float) -> Measured:
        """Run the script of (`way`, `command`) over the first `skus` SKUs. Raises RawSqlError."""
        with tempfile.TemporaryDirectory(prefix="stockledger-pgbench-") as folder:
            script = Path(folder) / "script.sql"
            script.write_text(SCRIPTS[way, command])
            printed = self._pgbench(script, skus, seconds)
            return parse(printed, Path(folder))

    def _pgbench(self, script: Path, skus: int, seconds: float) -> str:
        command = [str(self.bin_dir / "pgbench"), "--no-vacuum", "--protocol=prepared", "--log"]
        command += [f"--log-prefix={script.parent}/log", f"--client={self.clients}", f"--jobs={self.threads}"]
        command += [f"--time={max(1, round(seconds))}", f"--define=skus={skus}", f"--file={script}"]
        limit = seconds + GRACE_SECONDS
        environ = {**os.environ, **connection_environ(self.url)}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=limit, check=False)
        if done.returncode:
            raise RawSqlError(f"pgbench failed: {done.stderr.strip()[-500:]}")
        return done.stdout


def connection_environ(url: str) -> dict[str, str]:
    """The variables by which libpq programs find the database of `url`, a socket folder as host included."""
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    given = conninfo_to_dict(url)
    return {variable: str(given[name]) for name, variable in names.items() if given.get(name)}


def parse(printed: str, folder: Path) -> Measured:
    """The rate that pgbench printed, and the latencies from its logs in `folder`. Raises RawSqlError."""
    rate, failed = RATE.search(printed), FAILED.search(printed)
    if NONE.search(printed):  # it then prints no rate
        return Measured(0.0, 0.0, 0.0, 0)
    if rate is None:
        raise RawSqlError(f"pgbench printed no rate: {printed.strip()[-500:]}")
    latencies = Histogram()
    for seconds in logged_seconds(folder):
        latencies.record(seconds)
    return Measured(
        rate=float(rate[1]),
        p50_ms=latencies.quantile_ms(0.50),
        p99_ms=latencies.quantile_ms(0.99),
        errors=int(failed[1]) if failed else 0,
    )


def logged_seconds(folder: Path) -> Iterator[float]:
    """How long each logged transaction took; a line is client, transaction, microseconds, and more."""
    for path in folder.glob("log.*"):
        with path.open() as lines:
            for line in lines:
                yield int(line.split(" ", 3)[2]) / 1e6
