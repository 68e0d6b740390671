"""Reservations on the wire."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from api.http.schemas import Body, ReasonBody
from ledger.identifiers import Name, Quantity, Text, TtlSeconds
from ledger.reservations.reservations import HeldLine, Reservation, State
from ledger.stock.errors import Shortage

# More lines than any real invoice has; a cart is decided under the log's lock.
MAX_LINES = 2_000


class ReserveBody(ReasonBody, frozen=True, kw_only=True):
    reservation_id: UUID | None = None
    ttl_seconds: TtlSeconds | UnsetType = UNSET
    owner: Text | None = None


class LineAnswer(Struct, frozen=True, kw_only=True):
    """A quantity of a SKU, or one item; `returned` is there when some came back after the purchase."""

    sku: str
    sn: str | UnsetType = UNSET
    quantity: int | UnsetType = UNSET
    released: int
    purchased: int
    returned: int | UnsetType = UNSET

    @classmethod
    def of(cls, line: HeldLine, *, lapsed: bool) -> "LineAnswer":
        """With `lapsed`, what is still held shows as released: the hold is over by the clock."""
        return cls(
            sku=line.sku,
            sn=UNSET if line.sn is None else line.sn,
            quantity=line.quantity if line.sn is None else UNSET,
            released=_released(line) + (line.remaining if lapsed else 0),
            purchased=line.purchased,
            returned=line.returned or UNSET,
        )


def _released(line: HeldLine) -> int:
    """An item that was given back and is held again, or bought, is one unit still."""
    return line.released if line.sn is None else max(0, 1 - line.remaining - line.purchased)


class ReservationAnswer(Struct, frozen=True, kw_only=True):
    id: UUID
    state: State
    owner: str | None
    reference: str | None
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    lines: list[LineAnswer]
    missing: "list[ShortageAnswer] | UnsetType" = UNSET

    @classmethod
    def of(cls, r: Reservation, now: datetime | None = None) -> "ReservationAnswer":
        """As the reservation stands in the log; with `now`, as it stands by the clock."""
        state = r.state if now is None else r.state_at(now)
        return cls(
            id=r.reservation_id,
            state=state,
            owner=r.owner,
            reference=r.reference,
            created_at=r.created_at,
            expires_at=r.expires_at,
            ended_at=r.expires_at if state != r.state else r.ended_at,
            lines=[LineAnswer.of(line, lapsed=state != r.state) for line in r.lines.values()],
        )


class ShortageAnswer(Struct, frozen=True, kw_only=True):
    sku: str
    sn: str | UnsetType = UNSET
    requested: int
    available: int
    held_by_others: int
    next_release_at: datetime | None

    @classmethod
    def of(cls, s: Shortage, next_release_at: dict[tuple[str, str | None], datetime | None]) -> "ShortageAnswer":
        return cls(
            sku=s.sku,
            sn=UNSET if s.sn is None else s.sn,
            requested=s.requested,
            available=s.available,
            held_by_others=s.held_by_others,
            next_release_at=next_release_at.get((s.sku, s.sn)),
        )


class LineBody(Body, frozen=True, kw_only=True):
    sku: Name
    quantity: Quantity | UnsetType = UNSET
    sn: Name | UnsetType = UNSET


Lines = Annotated[list[LineBody], Meta(min_length=1, max_length=MAX_LINES)]


class CartBody(ReserveBody, frozen=True, kw_only=True):
    lines: Lines
    partial: bool = False


class LinesBody(ReasonBody, frozen=True, kw_only=True):
    lines: Lines


class PurchaseBody(ReasonBody, frozen=True, kw_only=True):
    """Buys the lines, or all that is held; with `rehold`, what expired is held again first if it is all there."""

    lines: Lines | UnsetType = UNSET
    rehold: bool = False


class ChangeBody(LinesBody, frozen=True, kw_only=True):
    """Exactly these lines are held then; with `ttl_seconds`, for so long from now."""

    ttl_seconds: TtlSeconds | UnsetType = UNSET


class ExtendBody(ReasonBody, frozen=True, kw_only=True):
    ttl_seconds: TtlSeconds | UnsetType = UNSET
