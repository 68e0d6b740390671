"""The replay of a log from its beginning: order, time, versions and names; then each stream's and reservation's rules.

After something wrong it goes on from what the log says there, so that one fault is not told again with every entry
that follows.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from ledger.audit.findings import Finding, Findings
from ledger.audit.hold_checks import Holds, Moment, Witness
from ledger.audit.stream_checks import ItemCheck, ProductCheck, StockCheck, pass_on
from ledger.errors import InvalidError, UnreadableEventError
from ledger.facts import Event
from ledger.identifiers import identifier
from ledger.items.events import ItemPurchased
from ledger.stock.events import StockAdded, StockRemoved
from ledger.streams import parse_stream, product_stream


class Stored(Moment, Protocol):
    """An entry as it is stored."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> bytes: ...


# By far the most of a log; no reservation has to do with them.
_OF_NO_HOLD = {StockAdded, StockRemoved}

StreamCheck = ProductCheck | StockCheck | ItemCheck
# Names and states to events, or what keeps one from being one.
Decode = Callable[[Sequence[tuple[str, bytes]]], Sequence[Event | UnreadableEventError]]
Seen = tuple[Moment, Event, StreamCheck]
Watch = Callable[[Sequence[Seen]], None]


class Replay:
    """`position` and `recorded_at` are those of the last entry taken.

    `decode` takes no bytes but just those that an event is stored as. `watch`, if given, is told of every event that is
    one of its stream, as many at a time as are taken.
    """

    def __init__(self, decode: Decode, findings: Findings, witness: Witness, watch: Watch | None = None) -> None:
        self._decode = decode
        self._findings = findings
        self._witness = witness
        self._watch = watch
        self._streams: dict[str, StreamCheck] = {}
        # Of streams in which a version was wrong: what the last one should have been.
        self._due: dict[str, int] = {}
        self.holds = Holds(findings, witness)
        self.position = 0
        self.recorded_at = datetime.min.replace(tzinfo=UTC)

    def take(self, entries: Sequence[Stored]) -> None:
        """Replay the next entries."""
        seen: list[Seen] = []
        streams, findings = self._streams, self._findings
        last, latest = self.position, self.recorded_at
        events = self._decode([(entry.name, entry.state) for entry in entries])
        for entry, event in zip(entries, events, strict=True):
            position, recorded_at, stream, version = entry.position, entry.recorded_at, entry.stream, entry.version
            before, last = last, position
            if position != before + 1:
                self._check_position(entry, before)
            if recorded_at < latest:
                wanted = f"recorded_at {latest.isoformat()} or later"
                findings.at(entry, "time", wanted, recorded_at.isoformat())
            latest = recorded_at
            check = streams.get(stream) or self._begin(entry)
            if check is None:
                continue
            if version != check.version + 1:
                self._check_version(entry, check)
            check.version, check.position = version, position
            if isinstance(event, UnreadableEventError):
                findings.at(entry, "unreadable", "an event as the ledger stores it", event)
                check.known = False
            elif check.take(entry, event, findings):
                if type(event) not in _OF_NO_HOLD:
                    self._tell_holds(entry, event, before)
                seen.append((entry, event, check))
        self.position, self.recorded_at = last, latest
        if self._watch is not None:
            self._watch(seen)

    def end(self) -> None:
        """Hand what is open to the witness: the log ends here."""
        self.holds.end()

    def products(self) -> Iterable[ProductCheck]:
        return (check for check in self._streams.values() if isinstance(check, ProductCheck))

    def stock(self) -> Iterable[StockCheck]:
        return (check for check in self._streams.values() if isinstance(check, StockCheck))

    def items(self) -> Iterable[ItemCheck]:
        return (check for check in self._streams.values() if isinstance(check, ItemCheck))

    def last_position(self, stream: str) -> int | None:
        """Where the log last says something of a stream; None if it never does."""
        check = self._streams.get(stream)
        return check.position or None if check is not None else None

    def _tell_holds(self, entry: Stored, event: Event, before: int) -> None:
        if isinstance(event, ItemPurchased) and event.reservation_id is None:
            self._witness.purchased(entry, event, None)
        else:
            pass_on(self.holds, entry, event, before)

    def _begin(self, entry: Stored) -> StreamCheck | None:
        """The track of a stream that is met for the first time; None if no stream has that name."""
        try:
            family, sku, sn = parse_stream(entry.stream)
            proper = identifier(sku, "sku") == sku and (family != "item" or identifier(sn, "sn") == sn)
        except (ValueError, InvalidError):
            proper = False
        if not proper:
            self._findings.at(entry, "stream-unknown", "a stream of this ledger", repr(entry.stream))
            return None
        check: StreamCheck
        if family == "product":
            check = ProductCheck(sku)
        else:
            of = self._streams.get(product_stream(sku))
            product = of if isinstance(of, ProductCheck) else ProductCheck(sku)
            if of is None:
                self._streams[product_stream(sku)] = product
            check = StockCheck(sku, product) if family == "stock" else ItemCheck(sku, sn, product)
        self._streams[entry.stream] = check
        return check

    def _check_version(self, entry: Stored, check: StreamCheck) -> None:
        """It does not follow the one before; if that was out of order, it may be the one that is due by count."""
        due = self._due.get(entry.stream, check.version) + 1
        self._due[entry.stream] = due
        check.known = False
        if entry.version != due:
            self._findings.at(entry, "version", f"version {due}", f"version {entry.version}")

    def _check_position(self, entry: Stored, before: int) -> None:
        if entry.position <= before:
            self._findings.at(entry, "position-repeated", f"position {before + 1}", f"position {entry.position}")
            return
        first, last = before + 1, entry.position - 1
        missing = f"position {first}" if first == last else f"positions {first} to {last}"
        self._findings.add(
            Finding(kind="position-missing", position=first, expected=missing, found=f"position {entry.position} next")
        )
