"""The database's clock, standing still until it is set.

Functions of the same names in the ledger's own schema, which a search path that names `pg_catalog` last finds first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from unittest.mock import patch

from ledger.engine.ledger import Ledger
from ledger.rooms import ROOMS
from ledger.store.connection import BoundedConnection, connect
from projections.inline import InlineReadModels
from projections.reader import Reader

_MAKE = """
CREATE TABLE clock (now timestamptz NOT NULL);
INSERT INTO clock VALUES (pg_catalog.clock_timestamp());
CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT now FROM clock';
CREATE FUNCTION statement_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT now FROM clock';
"""


class Clock:
    """Of one migrated schema; `ledger` and `reader` are made to go by it."""

    def __init__(self, url: str, schema: str) -> None:
        self._url = url
        self._schema = schema
        self._path = f"{schema},pg_catalog"
        with connect(url, schema) as conn:
            conn.execute(_MAKE.encode(), prepare=False)

    def now(self) -> datetime:
        with connect(self._url, self._schema) as conn:
            ((now,),) = conn.execute("SELECT now FROM clock").fetchall()
        return now

    def set(self, now: datetime) -> None:
        with connect(self._url, self._schema) as conn:
            conn.execute("UPDATE clock SET now = %s", [now])

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        def connect_by_it(url: str, _schema: str, *names: str, **limits: Any) -> BoundedConnection:
            return connect(url, self._path, *names, **limits)

        with patch("ledger.engine.ledger.connect", connect_by_it):
            ledger = Ledger(self._url, self._schema, ROOMS, InlineReadModels())
            yield ledger
            ledger.close()

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        reader = Reader(self._url, self._path, max_connections=2)
        yield reader
        reader.close()
