"""What the model is compared with: the pure rules on books in memory, and the whole application over HTTP.

Both take the same commands and are looked at in the same words.
"""

import hashlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from falcon import testing
from msgspec import structs

from api.app import create_app
from api.http.problems import PROBLEMS
from api.http.service import Service
from ledger.catalogue.products import PRODUCTS
from ledger.commands import Command
from ledger.commands import Key as IdempotencyKey
from ledger.engine.ledger import Ledger
from ledger.errors import LedgerError
from ledger.items.items import ITEMS
from ledger.outcome import Outcome
from ledger.reservations.commands import ExpireReservation, MakeReservation
from ledger.reservations.expiry import Expiry
from ledger.reservations.reservations import RESERVATIONS
from ledger.rooms import ROOMS
from ledger.stock.errors import InsufficientStockError
from ledger.stock.levels import STOCK, Stock
from ledger.store.idempotency import Answers
from ledger.streams import parse_stream
from ledger.unit_of_work import UnitOfWork
from projections.reader import Reader
from projections.rebuilding.rebuild import Rebuild
from projections.reservations import reservations
from tests.chaos.calls import call_of, fungible, item, look, reservation
from tests.chaos.clock import Clock
from tests.chaos.model import Key
from tests.chaos.wire import Direct
from tests.ledger.given import NOW, History

Lines = dict[Key, tuple[int, int, int]]


class Answer(NamedTuple):
    """`slug` of what refused the command, else None; `shown` is what the caller saw."""

    slug: str | None
    replayed: bool
    shown: Any


class Shop(Protocol):
    def handle(self, command: Command, key: str) -> Answer: ...

    def level(self, sku: str) -> tuple[int, int] | None:
        """On hand and reserved."""

    def item(self, sku: str, sn: str) -> tuple[bool, UUID | None] | None:
        """Whether it is sold, and what holds it."""

    def hold(self, reservation_id: UUID) -> tuple[str, Lines] | None:
        """Its state, and of each line what was released, purchased and returned."""

    def advance(self, seconds: int) -> None: ...

    def expire(self) -> None:
        """Write down what is over, as the expiry process does."""

    def differences(self) -> object:
        """What the log and the state made from it do not agree on; empty if they do."""


class PureShop:
    """The rules alone, with a clock that moves when it is told to. Fast."""

    def __init__(self) -> None:
        self._history = History([])
        self._work = self._history.work
        self._now = NOW
        self._answers = Answers()

    def handle(self, command: Command, key: str) -> Answer:
        keyed = structs.replace(
            command, key=IdempotencyKey(key, hashlib.sha256(repr(command).encode()).digest()), request_id=key
        )
        before = self._work.position
        try:
            kept = self._answers.find(keyed)
            if kept is not None:
                return Answer(None, True, kept.answer)
            outcome = self._decide(keyed)
        except LedgerError as error:
            written = self._work.entries[before:]
            assert {e.event.actor for e in written} <= {"expiry"}, "a refused command leaves no fact of its own"
            return Answer(PROBLEMS[type(error)][1], False, error.members)
        self._answers.keep(keyed, outcome, self._work.position - before)
        return Answer(None, False, outcome)

    def _decide(self, command: Command) -> Outcome:
        """As a batch does: what comes up short is tried again when overdue holds have been written down.

        A partial cart would take what there is without a word of being short.
        """
        if isinstance(command, MakeReservation) and command.partial:
            self.expire()
        try:
            return self._history.when(command, at=self._now).outcome
        except InsufficientStockError:
            self.expire()
            return self._history.when(command, at=self._now).outcome

    def level(self, sku: str) -> tuple[int, int] | None:
        product, level = self._work[PRODUCTS].get(sku), self._work[STOCK].get(sku)
        if product is None or product.kind != "fungible" or level is None:
            return None
        held = sum(line.remaining for r in self._open() if (line := r.lines.get(sku)))
        assert held == level.reserved, "what is reserved is what open reservations hold"
        assert 0 <= level.reserved <= level.on_hand, "nothing is oversold"
        over = sum(line.remaining for r in self._open() if r.is_overdue(self._now) and (line := r.lines.get(sku)))
        return level.on_hand, level.reserved - over

    def _open(self) -> Iterable[Any]:
        return [r for r in self._work[RESERVATIONS].values() if r is not None and r.state == "open"]

    def item(self, sku: str, sn: str) -> tuple[bool, UUID | None] | None:
        found = self._work[ITEMS].get((sku, sn))
        if found is None:
            return None
        is_held = found.reserved_until is not None and found.reserved_until > self._now
        return found.sold, found.reservation_id if is_held else None

    def hold(self, reservation_id: UUID) -> tuple[str, Lines] | None:
        found = self._work[RESERVATIONS].get(reservation_id)
        if found is None:
            return None
        over = found.is_overdue(self._now)
        lines = {
            (line.sku, line.sn): (
                (line.released if line.sn is None else max(0, 1 - line.remaining - line.purchased))
                + (line.remaining if over else 0),
                line.purchased,
                line.returned,
            )
            for line in found.lines.values()
        }
        return found.state_at(self._now), lines

    def advance(self, seconds: int) -> None:
        self._now += timedelta(seconds=seconds)

    def expire(self) -> None:
        for reservation_id in [r.reservation_id for r in self._open()]:
            self._history.when(ExpireReservation(reservation_id=reservation_id), at=self._now)

    def differences(self) -> object:
        again = UnitOfWork(NOW, 0, ROOMS.states)
        for entry in self._work.entries:
            _, sku, sn = parse_stream(entry.stream)
            again[PRODUCTS].setdefault(sku, None)
            again[STOCK].setdefault(sku, Stock(sku))
            again[ITEMS].setdefault((sku, sn), None)
            again.apply(entry)
        return [
            (kind, key)
            for kind in ROOMS.states.all
            for key, state in again[kind].items()
            if state is not None and state != self._work[kind].get(key, kind.absent(key))
        ]


class HttpShop:
    """The whole application on real PostgreSQL, by a clock that stands still until it is moved."""

    def __init__(self, url: str, schema: str, clock: Clock, ledger: Ledger, reader: Reader) -> None:
        self._wire = Direct(testing.TestClient(create_app(Service(ledger, reader, 3600))))
        self._clock = clock
        self._expiry = Expiry(ledger, lambda limit: reader.read(lambda conn: reservations.due(conn, limit)))
        self._where = (url, schema)

    def handle(self, command: Command, key: str) -> Answer:
        attempt = self._wire.send(call_of(command), key)
        return Answer(attempt.slug or None, attempt.replayed, attempt.body)

    def level(self, sku: str) -> tuple[int, int] | None:
        shown = self._look(fungible(sku))
        return shown and (shown["amount_in_stock"], shown["reserved_quantity"])

    def item(self, sku: str, sn: str) -> tuple[bool, UUID | None] | None:
        shown = self._look(item(sku, sn))
        return shown and (shown["sold"], shown["reservation_id"] and UUID(shown["reservation_id"]))

    def hold(self, reservation_id: UUID) -> tuple[str, Lines] | None:
        shown = self._look(reservation(reservation_id))
        return shown and (
            shown["state"],
            {
                (line["sku"], line.get("sn")): (line["released"], line["purchased"], line.get("returned", 0))
                for line in shown["lines"]
            },
        )

    def _look(self, path: str) -> dict[str, Any] | None:
        attempt = self._wire.send(look(path))
        return attempt.body if attempt.status == 200 else None

    def advance(self, seconds: int) -> None:
        self._clock.set(self._clock.now() + timedelta(seconds=seconds))

    def expire(self) -> None:
        while self._expiry.step() == 0.0:
            pass

    def differences(self) -> object:
        with Rebuild(*self._where) as rebuild:
            return rebuild.differences()
