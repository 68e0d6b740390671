"""Applications that ask for keys, and the keys to call them with."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from falcon import testing

from api.access.keys import HeldKeys, hash_of, new_key
from api.app import create_app
from api.http.service import Service
from ledger.engine.ledger import Ledger
from ledger.store import keys
from ledger.store.connection import Connection
from projections.reader import Reader

# Makes a key with these scopes and gives its text.
MakeKey = Callable[..., str]


@pytest.fixture
def make_key(conn: Connection) -> MakeKey:
    def make(name: str, *scopes: str, lasts: timedelta | None = None) -> str:
        key = new_key()
        keys.create(conn, name, hash_of(key), scopes, lasts)
        return key

    return make


@pytest.fixture
def held(service_url: str, schema: str) -> Iterator[HeldKeys]:
    """The live keys as a worker holds them; `_turn` reads them anew at once."""
    opened = HeldKeys(service_url, schema)
    yield opened
    opened.close()


@pytest.fixture
def guarded(service_url: str, schema: str, ledger: Ledger, held: HeldKeys) -> Iterator[testing.TestClient]:
    """The application with keys on."""
    reader = Reader(service_url, schema, max_connections=4)
    yield testing.TestClient(create_app(Service(ledger, reader, 3600), held))
    reader.close()
