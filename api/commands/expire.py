"""`stockledger expire`: writes down that reservations are over, and forgets old idempotency keys."""

import argparse
import time
from collections.abc import Sequence
from functools import partial
from uuid import UUID

from api.database import database
from api.server.until_stopped import until_stopped
from api.settings import Settings
from api.telemetry import sources
from api.telemetry.process import Telemetry
from ledger.engine.ledger import Ledger
from ledger.reservations.expiry import Expiry
from ledger.rooms import ROOMS
from ledger.store import idempotency
from projections.inline import InlineReadModels
from projections.reader import Reader
from projections.reservations import reservations

FORGET_EVERY_SECONDS = 60.0


def run(settings: Settings, _chosen: argparse.Namespace) -> int:
    """The expiry process alone, beside a service that runs elsewhere; more than one are safe."""
    with database(settings) as (url, _):
        print(f"writing down expired reservations of schema {settings.schema}", flush=True)
        work(settings, url)
    return 0


def work(settings: Settings, url: str, telemetry: Telemetry | None = None) -> None:
    """Work until SIGTERM or SIGINT; any number of these may run side by side."""
    ledger = Ledger(url, settings.schema, ROOMS, InlineReadModels())
    reader = Reader(url, settings.schema, max_connections=1)
    if telemetry is not None:
        sources.observe_ledger(telemetry, ledger)
    next_forget = time.monotonic()

    def due(limit: int) -> tuple[Sequence[UUID], float | None]:
        nonlocal next_forget
        if time.monotonic() >= next_forget:
            forgotten = reader.read(partial(idempotency.forget, days=settings.idempotency_days))
            more = forgotten == idempotency.MAX_FORGOTTEN
            next_forget = time.monotonic() + (0 if more else FORGET_EVERY_SECONDS)
        return reader.read(lambda conn: reservations.due(conn, limit))

    expiry = Expiry(ledger, due)
    try:
        until_stopped(expiry.run, expiry.stop)
    finally:
        ledger.close()
        reader.close()
