"""Everything that the long form lets faults loose on: PostgreSQL, a bad network before it, the service behind that.

`heal` undoes whatever a fault may have left.
"""

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg

from ledger.store.connection import connect
from ledger.store.embedded.server import EmbeddedPostgres
from tests.chaos.proxy import Proxy
from tests.chaos.service import Service, wait_until

STOP_SECONDS = 20.0


class Arena:
    """One round on a schema of its own; a context manager. The service is under way once it is entered.

    What the service logs goes into `folder`.
    """

    def __init__(self, postgres: EmbeddedPostgres, proxy: Proxy, folder: Path, schema: str, *, workers: int) -> None:
        self.postgres = postgres
        self.proxy = proxy
        self.schema = schema
        settings = {"DATABASE_URL": proxy.url, "STOCKLEDGER_SCHEMA": schema}
        self.service = Service(folder, workers=workers, **settings)
        self.second_expiry = Service(folder, verb="expire", **settings)
        self._stack = ExitStack()

    def __enter__(self) -> "Arena":
        with ExitStack() as stack:
            stack.enter_context(self.service)
            stack.enter_context(self.second_expiry)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()
        self._stack.close()

    def heal(self) -> None:
        """Everything runs, and the network is good."""
        self.proxy.heal()
        self.postgres.restart_if_dead()
        self.service.signal(signal.SIGCONT, self.service.children())
        if not self.service.is_running():
            self.service.start()

    def ask(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Straight to the database, past the bad network."""
        with connect(self.postgres.url, self.schema, "stockledger chaos") as conn:
            cursor = conn.execute(query.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def end_database(self, number: signal.Signals) -> None:
        """SIGINT shuts it down fast, SIGQUIT immediately."""
        end_server(self.postgres, number)

    def is_answering(self) -> bool:
        try:
            return self.ask("SELECT 1") == [(1,)]
        except psycopg.OperationalError:
            return False


def end_server(postgres: EmbeddedPostgres, number: signal.Signals) -> None:
    """Send the server's first process a signal that ends them all, and wait until it has."""
    pid_file = postgres.data_dir / "pg" / "postmaster.pid"
    os.kill(int(pid_file.read_text().split("\n", 1)[0]), number)
    wait_until(lambda: not postgres.is_running(), STOP_SECONDS, "the server has ended")
