"""A PostgreSQL that faults may hit, with what is acknowledged kept on disk, and a bad network before it."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from falcon import testing

from api.app import create_app
from api.http.service import Service as Wiring
from ledger.engine.ledger import Ledger
from ledger.rooms import ROOMS
from ledger.store.embedded.server import EmbeddedPostgres
from projections.inline import InlineReadModels
from projections.reader import Reader
from tests.chaos.audit import audit
from tests.chaos.callers import stock_the_shop
from tests.chaos.notes import Note
from tests.chaos.proxy import Proxy
from tests.chaos.wire import Direct

# Given notes, and what was seen: what the log, the read models and these do not agree on.
Check = Callable[..., list[str]]


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Where servers keep their data; every user may pass through it."""
    made = Path(tempfile.mkdtemp(prefix="stockledger-chaos-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres.start(folder / "postgres") as started:
        yield started


@pytest.fixture(scope="session")
def postgres_url(postgres: EmbeddedPostgres) -> str:
    """For the fixtures of all tests: never a server that others use."""
    return postgres.url


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    with Proxy(postgres_url) as started:
        yield started


@pytest.fixture
def ledger_behind_proxy(proxy: Proxy, schema: str) -> Iterator[Ledger]:
    opened = Ledger(proxy.url, schema, ROOMS, InlineReadModels())
    yield opened
    proxy.heal()
    opened.close()


@pytest.fixture
def direct(proxy: Proxy, schema: str, ledger_behind_proxy: Ledger) -> Iterator[Direct]:
    """The application in this process, behind the bad network; no expiry process."""
    reader = Reader(proxy.url, schema, max_connections=4)
    yield Direct(testing.TestClient(create_app(Wiring(ledger_behind_proxy, reader, 3600))))
    reader.close()


@pytest.fixture
def stocked(direct: Direct) -> list[Note]:
    """What was said when the callers' products were registered."""
    return stock_the_shop(direct)


@pytest.fixture
def check(postgres_url: str, schema: str, stocked: list[Note]) -> Check:
    return lambda notes, seen=(): audit(postgres_url, schema, [*stocked, *notes], seen).broken
