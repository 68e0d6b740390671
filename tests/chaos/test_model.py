"""The ledger does what a person with pencil and paper would do: any commands in any order, the clock moving on."""

import os
import random
from collections.abc import Callable
from itertools import count
from uuid import UUID

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from msgspec import UNSET

from ledger.catalogue.products import PRODUCTS
from ledger.commands import Command
from ledger.items.commands import PutItem
from ledger.items.items import ITEMS
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
from ledger.reservations.reservations import RESERVATIONS, summed
from ledger.rooms import ROOMS
from ledger.stock.commands import AddStock, PutFungible, RemoveStock
from tests.chaos.clock import Clock
from tests.chaos.model import LARGEST, Model
from tests.chaos.shops import Answer, HttpShop, PureShop, Shop

# Few names, so that commands meet: A and B are fungible and N is not; now and then they are asked for as the other
# kind, and for what is not there.
SKUS = st.sampled_from("AAAAABBBBBNC")
ITEM_SKUS = st.sampled_from("NNNNNNNNAC")
SNS = st.sampled_from("11122234")
QUANTITIES = st.sampled_from([1, 1, 2, 2, 3, 4, LARGEST])
NUMBERS = st.integers(0, 9)
PICKS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), min_size=1, max_size=2)
TTL_SECONDS = st.sampled_from([60, 600])
# On the wire it is not said: it is what the service holds things for by itself.
REHOLD_SECONDS = 3_600
LINES = st.lists(
    st.builds(Line, SKUS, st.integers(1, 4)) | st.builds(Line, ITEM_SKUS, st.just(1), SNS), min_size=1, max_size=3
).map(summed)

# The short form tries the same examples every time; the long form others, as many as about fit into so many seconds.
LONG_SECONDS = float(os.environ.get("STOCKLEDGER_CHAOS_SECONDS", "0"))

_examples = count(1)


class Machine(RuleBasedStateMachine):
    """Each example has names of its own, so that those on one database do not meet."""

    def __init__(self, shop: Shop) -> None:
        super().__init__()
        self.shop = shop
        self.model = Model()
        self.example = next(_examples)
        self.commands = 0
        self.last: tuple[Command, str, Answer] | None = None

    def sku(self, name: str) -> str:
        return f"{name}-{self.example}"

    def fresh(self, number: int) -> UUID:
        """A new reservation's id, or now and then one that is there."""
        new = UUID(int=self.example << 64 | len(self.model.holds), version=4)
        return self.known(number) if number > 7 else new

    def known(self, number: int) -> UUID:
        """The id of a reservation that is there, or now and then of none."""
        ids = [*self.model.holds][-4:]
        return ids[number % len(ids)] if ids and number else UUID(int=self.example << 64 | 99, version=4)

    def part(self, reservation_id: UUID, picks: list[tuple[int, int]]) -> tuple[Line, ...]:
        """Some of what a reservation was made of, or what it knows nothing of."""
        hold = self.model.holds.get(reservation_id)
        keys = [*hold.lines] if hold else []
        keys.append((self.sku("B"), None))
        picked = [(keys[number % len(keys)], quantity) for number, quantity in picks]
        return summed(Line(sku, quantity if sn is None else 1, sn) for (sku, sn), quantity in picked)

    @initialize(a=st.integers(0, 9), b=st.integers(0, 9))
    def stock_the_shop(self, a, b):
        self.do(PutFungible(sku=self.sku("A"), amount_in_stock=a))
        self.do(PutFungible(sku=self.sku("B"), amount_in_stock=b))
        for sn in "123":
            self.do(PutItem(sku=self.sku("N"), sn=sn, purchase_id=UUID(int=0, version=4)))

    def do(self, command: Command, key: str | None = None) -> None:
        self.commands += 1
        key = key or f"{self.example}.{self.commands}"
        expected = self.model.handle(command)
        answer = self.shop.handle(command, key)
        assert (answer.slug, answer.replayed) == (expected, False)
        self.last = (command, key, answer)
        self.compare(command)

    def compare(self, command: Command) -> None:
        """What the command named, and all that the reservations it named hold."""
        needs = ROOMS.needs_of([command])
        for sku in needs.of(PRODUCTS):
            self.compare_level(sku)
        for sku, sn in needs.of(ITEMS):
            self.compare_item(sku, sn)
        for reservation_id in needs.of(RESERVATIONS):
            self.compare_hold(reservation_id)

    def compare_level(self, sku: str) -> None:
        assert self.shop.level(sku) == self.model.level(sku)

    def compare_item(self, sku: str, sn: str) -> None:
        item = self.model.pieces.get(sku, {}).get(sn)
        assert self.shop.item(sku, sn) == (item and (item.sold, item.held_by))

    def compare_hold(self, reservation_id: UUID) -> None:
        hold = self.model.holds.get(reservation_id)
        if hold is None:
            assert self.shop.hold(reservation_id) is None
            return
        lines = {key: (held.shown_released(key[1]), held.purchased, held.returned) for key, held in hold.lines.items()}
        assert self.shop.hold(reservation_id) == (hold.state, lines)
        for sku, sn in hold.lines:
            if sn is None:
                self.compare_level(sku)
            else:
                self.compare_item(sku, sn)

    def teardown(self) -> None:
        for name in "ABN":
            self.compare_level(self.sku(name))
        for reservation_id in self.model.holds:
            self.compare_hold(reservation_id)
        assert not self.shop.differences()
        super().teardown()

    @rule(sku=SKUS, level=st.sampled_from([UNSET, 0, 2, 5, 9, 9, LARGEST]))
    def put(self, sku, level):
        self.do(PutFungible(sku=self.sku(sku), amount_in_stock=level))

    @rule(sku=SKUS, quantity=QUANTITIES)
    def add(self, sku, quantity):
        self.do(AddStock(sku=self.sku(sku), quantity=quantity))

    @rule(sku=SKUS, quantity=QUANTITIES)
    def remove(self, sku, quantity):
        self.do(RemoveStock(sku=self.sku(sku), quantity=quantity))

    @rule(number=NUMBERS, lines=LINES, ttl=TTL_SECONDS, partial=st.booleans())
    def reserve(self, number, lines, ttl, partial):
        lines = tuple(Line(self.sku(line.sku), line.quantity, line.sn) for line in lines)
        content = {"lines": lines, "ttl_seconds": ttl, "partial": partial}
        self.do(MakeReservation(reservation_id=self.fresh(number), fingerprint=repr(content), **content))

    @precondition(lambda self: self.last is not None and isinstance(self.last[0], MakeReservation))
    @rule()
    def reserve_the_same_again(self):
        """The caller's own id and the same content, without the key: nothing happens, whatever became of it."""
        self.do(self.last[0])

    @rule(sku=ITEM_SKUS, sn=SNS, sold=st.sampled_from([UNSET, UNSET, True, False]), purchase=st.uuids(version=4))
    def put_item(self, sku, sn, sold, purchase):
        self.do(PutItem(sku=self.sku(sku), sn=sn, sold=sold, purchase_id=purchase))

    @rule(sku=ITEM_SKUS, sn=SNS, number=NUMBERS, ttl=TTL_SECONDS)
    def reserve_item(self, sku, sn, number, ttl):
        self.do(ReserveItem(sku=self.sku(sku), sn=sn, reservation_id=self.fresh(number), ttl_seconds=ttl))

    @rule(sku=ITEM_SKUS, sn=SNS)
    def release_item(self, sku, sn):
        self.do(ReleaseItem(sku=self.sku(sku), sn=sn))

    @precondition(lambda self: self.model.holds)
    @rule(number=NUMBERS)
    def release(self, number):
        self.do(ReleaseReservation(reservation_id=self.known(number)))

    @precondition(lambda self: self.model.holds)
    @rule(number=NUMBERS, picks=PICKS)
    def release_part(self, number, picks):
        chosen = self.known(number)
        self.do(ReleaseReservation(reservation_id=chosen, lines=self.part(chosen, picks)))

    @precondition(lambda self: self.model.holds)
    @rule(number=NUMBERS, ttl=TTL_SECONDS)
    def extend(self, number, ttl):
        self.do(ExtendReservation(reservation_id=self.known(number), ttl_seconds=ttl))

    @precondition(lambda self: self.model.holds)
    @rule(number=NUMBERS, purchase=st.uuids(version=4), rehold=st.sampled_from([None, REHOLD_SECONDS]))
    def purchase(self, number, purchase, rehold):
        chosen = self.known(number)
        self.do(PurchaseReservation(reservation_id=chosen, purchase_id=purchase, rehold_seconds=rehold))

    @precondition(lambda self: self.model.holds)
    @rule(number=NUMBERS, picks=PICKS, purchase=st.uuids(version=4), rehold=st.sampled_from([None, REHOLD_SECONDS]))
    def purchase_part(self, number, picks, purchase, rehold):
        chosen = self.known(number)
        lines = self.part(chosen, picks)
        more = {"purchase_id": purchase, "lines": lines, "rehold_seconds": rehold}
        self.do(PurchaseReservation(reservation_id=chosen, **more))

    @precondition(lambda self: any(hold.state == "expired" for hold in self.model.holds.values()))
    @rule(number=NUMBERS, purchase=st.uuids(version=4))
    def buy_what_expired(self, number, purchase):
        expired = [i for i, hold in self.model.holds.items() if hold.state == "expired"]
        chosen = expired[number % len(expired)]
        self.do(PurchaseReservation(reservation_id=chosen, purchase_id=purchase, rehold_seconds=REHOLD_SECONDS))

    @precondition(lambda self: self.model.holds)
    @rule(number=NUMBERS, lines=LINES, ttl=st.none() | TTL_SECONDS)
    def change(self, number, lines, ttl):
        lines = tuple(Line(self.sku(line.sku), line.quantity, line.sn) for line in lines)
        self.do(ChangeReservation(reservation_id=self.known(number), lines=lines, ttl_seconds=ttl))

    @precondition(lambda self: self.model.holds)
    @rule(number=NUMBERS, picks=PICKS)
    def take_back(self, number, picks):
        chosen = self.known(number)
        self.do(ReturnPurchase(reservation_id=chosen, lines=self.part(chosen, picks)))

    @precondition(lambda self: self.last is not None)
    @rule()
    def retry(self):
        """With the same key: the same answer and nothing done, or a new try if the first was refused."""
        command, key, answer = self.last
        if answer.slug is not None:
            self.do(command, key)
            return
        assert self.shop.handle(command, key) == Answer(None, True, answer.shown)
        self.compare(command)

    @precondition(lambda self: self.last is not None and self.last[2].slug is None)
    @rule()
    def misuse_the_key(self):
        _, key, _ = self.last
        assert self.shop.handle(AddStock(sku=self.sku("A"), quantity=99), key).slug == "idempotency-key-reused"
        self.compare_level(self.sku("A"))

    @rule(seconds=st.sampled_from([30, 60, 540]))
    def advance(self, seconds):
        self.shop.advance(seconds)
        self.model.advance(seconds)
        for reservation_id in self.model.holds:
            self.compare_hold(reservation_id)

    @rule()
    def expire(self):
        self.shop.expire()
        for reservation_id in self.model.holds:
            self.compare_hold(reservation_id)

    @rule()
    def rebuild(self):
        assert not self.shop.differences()


def run(
    shop: Callable[[], Shop], *, examples: int, steps: int, examples_per_second: float, phases: list[Phase]
) -> None:
    number = random.SystemRandom().getrandbits(32) if LONG_SECONDS else 0
    print(f"seed {number}")
    run_state_machine_as_test(
        seed(number)(lambda: Machine(shop())),
        settings=settings(
            max_examples=max(examples, int(LONG_SECONDS * examples_per_second)),
            stateful_step_count=steps,
            deadline=None,
            database=None,
            print_blob=True,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_rules_do_what_the_model_does():
    run(PureShop, examples=150, steps=40, examples_per_second=10, phases=[Phase.generate, Phase.shrink])


def test_the_application_on_postgresql_does_what_the_model_does(postgres_url: str, schema: str):
    clock = Clock(postgres_url, schema)
    with clock.ledger() as ledger, clock.reader() as reader:
        shop = HttpShop(postgres_url, schema, clock, ledger, reader)

        # What fails is shown as it is: a database takes too long to look for the smallest example.
        run(lambda: shop, examples=8, steps=30, examples_per_second=1, phases=[Phase.generate])
