"""What a row of an imported file means: which of its columns says what, and the command that comes of it.

docs/import.md describes the columns. What never lives here: reading files, and whether the ledger agrees.
"""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from fnmatch import translate
from functools import lru_cache
from operator import itemgetter
from typing import Any, Literal, get_args

from msgspec import Struct

from api.resources.items.command_builders import put_item
from api.resources.items.schemas import ItemBody
from api.resources.stock.command_builders import put_fungible
from api.resources.stock.schemas import FungibleBody
from api.settings import SettingError
from ledger.commands import Command
from ledger.errors import InvalidError
from ledger.identifiers import MAX_INTEGER, MAX_TEXT_CHARACTERS, MAX_TTL_SECONDS, identifier
from ledger.reservations.commands import Line, MakeReservation
from ledger.stock.commands import AddStock, RemoveStock

Kind = Literal["products", "movements"]
Direction = Literal["in", "out"]
Keep = Literal["first", "last"]

ACTOR = "import"
# Products of one file whose members are remembered, so that a row that says nothing new costs next to nothing.
MAX_REMEMBERED = 100_000

COLUMNS: dict[Kind, tuple[str, ...]] = {
    "products": (
        *("sku", "sn", "name", "description", "color", "unit_price_cents", "unit_price", "shipping_weight_grams"),
        *("amount_in_stock", "notes", "price_cents", "price", "sold"),
    ),
    "movements": ("sku", "quantity", "movement", "reason", "reference", "owner", "ttl_seconds"),
}
REQUIRED: dict[Kind, tuple[str, ...]] = {"products": ("sku",), "movements": ("sku", "quantity")}

_INTEGER = re.compile(r"[+-]?[0-9]{1,16}", re.ASCII)
_DECIMAL = re.compile(r"([0-9]{1,13})(?:\.([0-9]{0,30}))?", re.ASCII)
_STOCK: dict[str, type[AddStock] | type[RemoveStock]] = {"add": AddStock, "remove": RemoveStock}
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Where(Struct, frozen=True):
    """Rows count only if this column matches the shell pattern, or only if it does not."""

    column: str
    pattern: str
    matches: bool


class Meaning(Struct, frozen=True, kw_only=True):
    """What the rows of a file are taken to mean: `columns` and `constants` by name of COLUMNS."""

    kind: Kind
    columns: dict[str, str]
    constants: dict[str, str]
    where: tuple[Where, ...] = ()
    direction: Direction = "in"
    keep: Keep = "last"
    opening: bool = False

    def used(self) -> list[str]:
        """The columns of the file that are looked at."""
        return list(dict.fromkeys([*self.columns.values(), *(where.column for where in self.where)]))


def guess_kind(names: Sequence[str]) -> Kind:
    """The kind that goes with the names that a file has or is given; raises SettingError when they tell of neither."""
    if "quantity" in names or "movement" in names:
        return "movements"
    if any(name in COLUMNS["products"][1:] for name in names):
        return "products"
    raise SettingError(f"cannot tell what the rows are: give --kind {' or '.join(get_args(Kind))}")


def find_columns(
    kind: Kind, header: Sequence[str], mapped: Mapping[str, str], constants: Mapping[str, str]
) -> dict[str, str]:
    """Which column of the file is which member: as mapped, else by the same name. Raises SettingError."""
    for name in (*mapped, *constants):
        if name not in COLUMNS[kind]:
            raise SettingError(f"there is no {name!r} among {kind}: they have {', '.join(COLUMNS[kind])}")
    found = {name: mapped.get(name, name) for name in COLUMNS[kind] if name not in constants}
    columns = {name: column for name, column in found.items() if column in header or name in mapped}
    for column in columns.values():
        require_column(column, header)
    for name in REQUIRED[kind]:
        if name not in columns and name not in constants:
            raise SettingError(f"no column says {name}: name it with --map {name}=COLUMN; {_has(header)}")
    return columns


def require_column(column: str, header: Sequence[str]) -> None:
    """Raises SettingError unless the file has just one such column."""
    if header.count(column) != 1:
        raise SettingError(
            f"there is {'no' if column not in header else 'more than one'} column {column!r}; {_has(header)}"
        )


def _has(header: Sequence[str]) -> str:
    return f"the file has {', '.join(header)}"


class RowReader:
    """Turns the cells of a row, in the order of `header`, into a command."""

    def __init__(self, meaning: Meaning, header: Sequence[str], ttl_seconds: int) -> None:
        names = COLUMNS[meaning.kind]
        self._constants = ["", *meaning.constants.values()]
        places = {name: header.index(column) for name, column in meaning.columns.items()}
        places |= {name: len(header) + 1 + number for number, name in enumerate(meaning.constants)}
        self._pick: Callable[[list[str]], tuple[str, ...]] = itemgetter(
            *(places.get(name, len(header)) for name in names)
        )
        self._where = [(header.index(w.column), re.compile(translate(w.pattern)), w.matches) for w in meaning.where]
        rows = Products(meaning.keep) if meaning.kind == "products" else Movements(meaning.direction, ttl_seconds)
        self._command: Callable[[tuple[str, ...], str], Command | None] = rows.command

    def read(self, cells: list[str], request_id: str) -> Command | None:
        """The command of a row; None if it asks for nothing. Raises InvalidError naming the bad member."""
        for place, pattern, matches in self._where:
            if (pattern.match(cells[place]) is not None) is not matches:
                return None
        return self._command(self._pick(cells + self._constants), request_id)


class Movements:
    """`out`: quantities without a sign leave the stock."""

    def __init__(self, direction: Direction, ttl_seconds: int) -> None:
        self._in = direction == "in"
        self._ttl_seconds = ttl_seconds

    def command(self, cells: tuple[str, ...], request_id: str) -> Command:
        sku, quantity, movement, reason, reference, owner, ttl = cells
        word = movement.strip().lower()
        amount = _integer(quantity, "quantity", 1 if word else -MAX_INTEGER)
        if not amount:
            raise InvalidError({"quantity": "must not be 0"})
        if not word:
            word = "add" if (amount > 0) is self._in else "remove"
        if word == "reserve":
            return self._reserve(sku, amount, owner, ttl, _by(request_id, reason, reference))
        if owner or ttl:
            raise InvalidError({"owner" if owner else "ttl_seconds": "belongs to 'reserve' only"})
        made = _STOCK.get(word)
        if made is None:
            raise InvalidError({"movement": "must be add, remove or reserve"})
        return made(sku=_identifier(sku, "sku"), quantity=abs(amount), **_by(request_id, reason, reference))

    def _reserve(self, sku: str, quantity: int, owner: str, ttl: str, by: dict[str, Any]) -> Command:
        seconds = _integer(ttl, "ttl_seconds", 1, MAX_TTL_SECONDS) if ttl else self._ttl_seconds
        line = Line(_identifier(sku, "sku"), quantity)
        by["owner"] = _text(owner.strip(), "owner") or None
        return MakeReservation(reservation_id=uuid.uuid4(), lines=(line,), ttl_seconds=seconds, **by)


class Products:
    """Remembers what the file has said of each product: `first` keeps that, `last` follows the changes."""

    def __init__(self, keep: Keep) -> None:
        self._first = keep == "first"
        self._said: dict[tuple[str, str], dict[str, Any]] = {}

    def command(self, cells: tuple[str, ...], request_id: str) -> Command | None:
        sku, sn = _identifier(cells[0], "sku"), _identifier(cells[1], "sn") if cells[1].strip() else ""
        said: dict[str, Any] = {}
        for name, cell in zip(COLUMNS["products"][2:], cells[2:], strict=True):
            if text := cell.strip():
                member, parse = _MEMBERS[name]
                if member in said:
                    raise InvalidError({name: f"is said by {member} already"})
                said[member] = parse(text, name)
        shape = ItemBody if sn else FungibleBody
        for member in said:
            if member not in shape.__struct_fields__:
                raise InvalidError({member: f"does not belong to a row with{'' if sn else 'out'} an sn"})
        news = self._news((sku, sn), said)
        if news is None:
            return None
        common = {"actor": ACTOR, "request_id": request_id}
        if sn:
            return put_item(ItemBody(**news), sku, sn, common)
        return put_fungible(FungibleBody(**news), sku, common)

    def _news(self, product: tuple[str, str], said: dict[str, Any]) -> dict[str, Any] | None:
        """What the rows before have not said; None if that is nothing."""
        before = self._said.pop(product, None)
        known = before or {}
        news = {m: value for m, value in said.items() if m not in known or not (self._first or known[m] == value)}
        self._said[product] = {**known, **news}
        if len(self._said) > MAX_REMEMBERED:
            del self._said[next(iter(self._said))]  # the one that was not met for longest
        return news if news or before is None else None


_identifier = lru_cache(maxsize=MAX_REMEMBERED)(identifier)


@lru_cache(maxsize=10_000)
def _integer(text: str, member: str, low: int = 0, high: int = MAX_INTEGER) -> int:
    stripped = text.strip()
    if _INTEGER.fullmatch(stripped) and low <= (number := int(stripped)) <= high:
        return number
    raise InvalidError({member: f"must be an integer from {low} to {high}"})


@lru_cache(maxsize=10_000)
def _cents(text: str, member: str) -> int:
    """An amount of money in whole units, exactly."""
    match = _DECIMAL.fullmatch(text)
    fraction = (match[2] or "").rstrip("0") if match else ""
    if match is None or len(fraction) > 2:
        raise InvalidError({member: "must be a number such as 12.50, not negative, with at most two decimals"})
    return int(match[1]) * 100 + int(fraction.ljust(2, "0"))


def _text(text: str, member: str) -> str:
    if len(text) > MAX_TEXT_CHARACTERS or "\0" in text:
        raise InvalidError({member: f"must have at most {MAX_TEXT_CHARACTERS} characters and hold no NUL"})
    return text


def _truth(text: str, member: str) -> bool:
    if text.lower() not in _TRUTHS:
        raise InvalidError({member: f"must be one of {', '.join(_TRUTHS)}"})
    return _TRUTHS[text.lower()]


# Under which member a column's cell goes to the ledger, and how it is read.
_MEMBERS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    **{name: (name, _text) for name in ("name", "description", "color", "notes")},
    **{name: (name, _integer) for name in ("unit_price_cents", "shipping_weight_grams", "amount_in_stock")},
    "unit_price": ("unit_price_cents", _cents),
    "price_cents": ("price_cents", _integer),
    "price": ("price_cents", _cents),
    "sold": ("sold", _truth),
}


def _by(request_id: str, reason: str, reference: str) -> dict[str, Any]:
    """Who and why; empty cells say nothing."""
    by: dict[str, Any] = {"actor": ACTOR, "request_id": request_id}
    if text := reason.strip():
        by["reason"] = _text(text, "reason")
    if text := reference.strip():
        by["reference"] = _text(text, "reference")
    return by
