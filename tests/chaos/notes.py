"""What callers wrote down about what they asked and what they were told, and whether the log keeps those words."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from tests.chaos.calls import Call
from tests.chaos.fold import Row

Word = Literal["acknowledged", "refused", "nothing recorded", "unknown"]

# What the service itself says of a command that it could not carry out: nothing was recorded.
NOTHING_RECORDED = ("busy", "database-away")
# The kind of a call that comes with a key that was acknowledged for another.
MISUSE = "Misuse"
# Between this process' clock and PostgreSQL's, on the same machine.
CLOCK_MARGIN_SECONDS = 0.05

_EPOCH = time.time() - time.monotonic()


def by_the_wall(moment: float) -> datetime:
    """A moment of the monotonic clock as time of day."""
    return datetime.fromtimestamp(moment + _EPOCH, UTC)


@dataclass
class Attempt:
    """One request and its answer, if one came. Times are of the monotonic clock; status 0: no answer."""

    request_id: str
    sent: float
    answered: float | None = None
    status: int = 0
    slug: str = ""
    position: int | None = None
    replayed: bool = False
    retry_after: str | None = None
    body: dict[str, Any] = field(default_factory=dict)
    never_sent: bool = False

    @property
    def word(self) -> Word:
        if self.status in (200, 201):
            return "acknowledged"
        if self.never_sent or self.slug in NOTHING_RECORDED:
            return "nothing recorded"
        return "refused" if 400 <= self.status < 500 else "unknown"

    @property
    def seconds(self) -> float | None:
        return None if self.answered is None else self.answered - self.sent


@dataclass
class Note:
    """A command: all its attempts have the same content, and the same key or a reservation id of the caller's own."""

    caller: int
    call: Call
    key: str | None = None
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def word(self) -> Word:
        """What the caller knows in the end. A refusal does not tell what becomes of an attempt before it that is still
        under way."""
        words = [attempt.word for attempt in self.attempts]
        if words[-1] == "acknowledged":
            return "acknowledged"
        if "unknown" in words:
            return "unknown"
        return words[-1]


def check(notes: Sequence[Note], rows: Sequence[Row]) -> list[str]:
    """Every word that the log does not keep, as a sentence."""
    recorded: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        recorded[row.data["request_id"]].append(row)
    broken = [sentence for request_id, found in recorded.items() for sentence in _check_once(request_id, found)]
    for note in notes:
        broken += [*_check_word(note, recorded), *_check_replays(note)]
    return [*broken, *_check_order(notes, recorded)]


def _check_once(request_id: str, found: Sequence[Row]) -> Iterable[str]:
    """One command, one transaction: its entries stand together and none is there twice."""
    positions = [row.position for row in found]
    if positions != list(range(positions[0], positions[0] + len(positions))):
        yield f"request {request_id} is recorded apart, at {positions}"
    if len({row.recorded_at for row in found}) > 1:
        yield f"request {request_id} is recorded at different times"
    twice = [what for what, count in Counter((row.stream, row.topic) for row in found).items() if count > 1]
    if twice:
        yield f"request {request_id} is recorded more than once: {twice}"


def _check_word(note: Note, recorded: dict[str, list[Row]]) -> Iterable[str]:
    what = f"{note.call.kind} of caller {note.caller}"
    there = [attempt for attempt in note.attempts if attempt.request_id in recorded]
    if len(there) > 1:
        yield f"{what} is recorded {len(there)} times: {[attempt.request_id for attempt in there]}"
    if note.word == "acknowledged" and note.call.records and not there:
        yield f"{what} was acknowledged and is not recorded: {note.attempts[-1].request_id}"
    if note.word == "acknowledged" and note.call.kind == MISUSE:
        yield f"{what} was acknowledged under the key of another command: {note.key}"
    for attempt in note.attempts:
        if attempt.request_id in recorded and attempt.word in ("refused", "nothing recorded"):
            yield f"{what} was told {attempt.status} {attempt.slug} and is recorded: {attempt.request_id}"
        if attempt.status >= 500 and attempt.status != 503:
            yield f"{what} was answered {attempt.status}: {attempt.request_id}"
        if attempt.status == 503 and not attempt.retry_after:
            yield f"{what} was not told when to come back: {attempt.request_id}"
        entries = len(recorded.get(attempt.request_id, ()))
        if entries and note.call.entries not in (None, entries):
            yield f"{what} made {entries} entries instead of {note.call.entries}: {attempt.request_id}"
        last = recorded[attempt.request_id][-1].position if attempt.request_id in recorded else None
        if last is not None and attempt.word == "acknowledged" and attempt.position != last:
            yield f"{what} was told position {attempt.position} and is recorded at {last}: {attempt.request_id}"


def _check_replays(note: Note) -> Iterable[str]:
    """A repeat with the same key is told what the first one was told."""
    told = [attempt for attempt in note.attempts if attempt.word == "acknowledged"]
    for attempt in told[1:] if note.key else []:
        said, said_first = (_said(one.body) for one in (attempt, told[0]))
        if not attempt.replayed or (said, attempt.position) != (said_first, told[0].position):
            first, wrong = told[0], attempt
            yield (
                f"{wrong.request_id} was told something else than {first.request_id}, whose key it repeats:"
                f" {note.call}; {wrong.body} at {wrong.position}, replayed: {wrong.replayed};"
                f" {first.body} at {first.position}"
            )


def _said(body: Any) -> Any:
    """The results of a batch say beside what they were that they are replays."""
    if not isinstance(body, dict) or "results" not in body:
        return body
    return [{name: value for name, value in result.items() if name != "replayed"} for result in body["results"]]


def _check_order(notes: Sequence[Note], recorded: dict[str, list[Row]]) -> Iterable[str]:
    """What was answered before something else was asked is no later in the log, whoever asked."""
    attempts = [attempt for note in notes for attempt in note.attempts]
    answered = sorted((a.answered, a.position, a.request_id) for a in attempts if a.answered and a.position is not None)
    known, of, next_answer = 0, "", 0
    for attempt in sorted(attempts, key=lambda a: a.sent):
        while next_answer < len(answered) and answered[next_answer][0] < attempt.sent:
            known, of = max((known, of), answered[next_answer][1:])
            next_answer += 1
        first = recorded[attempt.request_id][0].position if attempt.request_id in recorded else None
        if first is not None and first <= known:
            yield f"{attempt.request_id} is at {first}, before {of} at {known}, which was answered before it was asked"
        elif attempt.position is not None and attempt.position < known and not attempt.replayed:
            yield f"{attempt.request_id} was told {attempt.position} when {of} had been told {known}"
