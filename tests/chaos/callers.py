"""Callers that ask for everything at random on a few hot products, and write down what they are told.

Every choice comes from the seed; how their requests fall between each other does not.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from operator import attrgetter
from uuid import UUID

from ledger.commands import Command
from ledger.items.commands import PutItem
from ledger.reservations.commands import (
    ChangeReservation,
    ExtendReservation,
    Line,
    MakeReservation,
    PurchaseReservation,
    ReleaseItem,
    ReleaseReservation,
    ReserveItem,
    ReturnPurchase,
)
from ledger.reservations.reservations import summed
from ledger.stock.commands import AddStock, PutFungible, RemoveStock
from tests.chaos.calls import Call, call_of, fungible, item, look, reservation, transfer
from tests.chaos.notes import MISUSE, Attempt, Note
from tests.chaos.seen import Seen, seen_by
from tests.chaos.wire import Wire

SKUS = ("HOT", "WARM")
ITEMS = (("BIKE", "1"), ("BIKE", "2"), ("BIKE", "3"))
STOCK = 40
TTL_SECONDS = (1, 1, 2, 3600, 3600)
# Of the commands, these parts carry an Idempotency-Key, are sent again later, or are sent with the key of another.
KEYED, AGAIN, MISUSED = 0.6, 0.05, 0.02
TRANSFERRED = 0.05
RETRY_SECONDS, MAX_RETRIES, SETTLE_SECONDS = 0.2, 20, 30.0


def stock_the_shop(wire: Wire) -> list[Note]:
    """Register the products that the callers ask for."""
    commands: list[Command] = [PutFungible(sku=sku, amount_in_stock=STOCK) for sku in SKUS]
    commands += [PutItem(sku=sku, sn=sn, purchase_id=UUID(int=0)) for sku, sn in ITEMS]
    with closing(wire):
        notes = [Note(-1, call) for call in map(call_of, commands)]
        for note in notes:
            note.attempts.append(wire.send(note.call))
    assert all(note.word == "acknowledged" for note in notes), notes
    return notes


class Caller(threading.Thread):
    def __init__(self, number: int, seed: object, wire: Wire, stopping: threading.Event) -> None:
        super().__init__(name=f"caller-{number}", daemon=True)
        self.notes: list[Note] = []
        self.looks: list[Attempt] = []
        self.seen: list[Seen] = []
        self._number = number
        self._random = random.Random(f"{seed}/{number}")
        self._wire = wire
        self._stopping = stopping
        self._made: list[UUID] = []

    def run(self) -> None:
        with closing(self._wire):
            while not self._stopping.is_set():
                self._step()

    def settle(self) -> None:
        """Ask again about everything that is not known yet and can be asked again safely; the network is good now."""
        until = time.monotonic() + SETTLE_SECONDS
        with closing(self._wire):
            for note in self.notes:
                while note.word == "unknown" and _may_repeat(note) and time.monotonic() < until:
                    self._attempt(note)
                    if note.attempts[-1].word == "refused":
                        break
                    time.sleep(RETRY_SECONDS)

    def _step(self) -> None:
        dice = self._random.random()
        if dice < 0.1:
            self._look()
        elif dice < 0.1 + AGAIN and (note := self._recent_with_key()):
            self._attempt(note)
        elif dice < 0.1 + AGAIN + MISUSED and (note := self._recent_with_key()) and note.call.kind != "Transfer":
            other = call_of(AddStock(sku=SKUS[0], quantity=self._random.randint(1_000, 9_999)))
            self._ask(other._replace(kind=MISUSE), note.key)
        else:
            key = f"key-{self._number}-{len(self.notes)}" if self._random.random() < KEYED else None
            self._ask(self._call(), key)

    def _ask(self, call: Call, key: str | None) -> None:
        note = Note(self._number, call, key)
        self.notes.append(note)
        self._attempt(note)
        while _is_open(note) and len(note.attempts) < MAX_RETRIES and not self._stopping.wait(RETRY_SECONDS):
            self._attempt(note)

    def _attempt(self, note: Note) -> None:
        attempt = self._wire.send(note.call, note.key)
        note.attempts.append(attempt)
        if shown := seen_by(attempt, read=False):
            self.seen.append(shown)
        if attempt.never_sent:
            self._stopping.wait(RETRY_SECONDS)

    def _look(self) -> None:
        paths = [*map(fungible, SKUS), *(item(*key) for key in ITEMS), *map(reservation, self._made[-2:])]
        attempt = self._wire.send(look(self._random.choice(paths)))
        self.looks.append(attempt)
        if shown := seen_by(attempt, read=True):
            self.seen.append(shown)

    def _recent_with_key(self) -> Note | None:
        known = [note for note in self.notes[-20:] if note.key and note.word == "acknowledged"]
        return self._random.choice(known) if known else None

    def _call(self) -> Call:
        if self._random.random() < TRANSFERRED:
            return transfer(self._random.randint(1, 3), *self._random.sample(SKUS, 2))
        return call_of(self._command())

    def _command(self) -> Command:
        choose = self._random
        (sku, (bike, sn)), ttl = (choose.choice(SKUS), choose.choice(ITEMS)), choose.choice(TTL_SECONDS)
        new = UUID(int=choose.getrandbits(128), version=4)
        some = choose.choice(self._made[-6:]) if self._made else new
        small = choose.randint(1, 3)
        sold = choose.choice((True, False))
        lines = summed(choose.sample([Line(SKUS[0], small), Line(SKUS[1]), Line(bike, 1, sn)], choose.randint(1, 3)))
        weighted: Sequence[tuple[int, Command]] = (
            (8, MakeReservation(reservation_id=new, lines=(Line(sku, small),), ttl_seconds=ttl)),
            (5, MakeReservation(reservation_id=new, lines=lines, ttl_seconds=ttl)),
            (3, MakeReservation(reservation_id=new, lines=lines, ttl_seconds=ttl, partial=True)),
            (3, ReserveItem(sku=bike, sn=sn, reservation_id=choose.choice((new, some)), ttl_seconds=ttl)),
            (4, PurchaseReservation(reservation_id=some, purchase_id=new)),
            (2, PurchaseReservation(reservation_id=some, purchase_id=new, lines=lines[:1])),
            (2, PurchaseReservation(reservation_id=some, purchase_id=new, rehold_seconds=3_600)),
            (1, PurchaseReservation(reservation_id=some, purchase_id=new, rehold_seconds=3_600, lines=lines[:1])),
            (5, ChangeReservation(reservation_id=some, lines=lines, ttl_seconds=choose.choice((None, ttl)))),
            (2, ReleaseReservation(reservation_id=some)),
            (2, ReleaseReservation(reservation_id=some, lines=lines[:1])),
            (2, ExtendReservation(reservation_id=some, ttl_seconds=ttl)),
            (2, ReturnPurchase(reservation_id=some, lines=lines[:1])),
            (3, AddStock(sku=sku, quantity=small)),
            (2, RemoveStock(sku=sku, quantity=small)),
            (1, PutFungible(sku=sku, amount_in_stock=STOCK)),
            (1, PutItem(sku=bike, sn=sn, purchase_id=new, sold=sold)),
            (1, ReleaseItem(sku=bike, sn=sn)),
        )
        (command,) = choose.choices([c for _, c in weighted], [weight for weight, _ in weighted])
        if isinstance(command, MakeReservation | ReserveItem):
            self._made.append(command.reservation_id)
        return command


class Load:
    """Callers at work from entering to leaving; `notes` and `seen` are complete after that."""

    def __init__(self, wire: Callable[[], Wire], *, callers: int, seed: object) -> None:
        self._stopping = threading.Event()
        self._callers = [Caller(number, seed, wire(), self._stopping) for number in range(callers)]

    def __enter__(self) -> "Load":
        for caller in self._callers:
            caller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for caller in self._callers:
            caller.join()

    def settle(self) -> None:
        """After the end, with everything healthy again: find out what is not known yet."""
        for caller in self._callers:
            caller.settle()

    def has_worked_since(self, moment: float) -> bool:
        """Whether a request that was sent after a moment has been carried out, or refused by a rule."""
        return any(a.sent > moment and a.word in ("acknowledged", "refused") for a in self.attempts)

    @property
    def notes(self) -> list[Note]:
        return [note for caller in self._callers for note in caller.notes]

    @property
    def attempts(self) -> list[Attempt]:
        """Every request, reads too, in the order in which they were sent."""
        writes = [attempt for note in self.notes for attempt in note.attempts]
        return sorted(writes + self.looks, key=attrgetter("sent"))

    @property
    def looks(self) -> list[Attempt]:
        """The reads."""
        return [look for caller in self._callers for look in caller.looks]

    @property
    def seen(self) -> list[Seen]:
        return [seen for caller in self._callers for seen in caller.seen]


def _may_repeat(note: Note) -> bool:
    """By its key, or by the id that it gave the reservation."""
    return note.key is not None or note.call.kind == "MakeReservation"


def _is_open(note: Note) -> bool:
    return _may_repeat(note) and note.attempts[-1].word in ("unknown", "nothing recorded")
