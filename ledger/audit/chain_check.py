"""The chain checked: does each entry's digest follow from the digest before it and from the entry's own bytes?

Each entry is held against the digest that is stored before it, so one that was changed is named alone, and what follows
it is not.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from ledger.audit.findings import Finding, Findings
from ledger.store.entry_lines import LINE, SealedEntry, quoted, time_text
from ledger.store.hash_chain import BEGINNING, seal

# Of so many entries behind one that is not as it was sealed it is found out whether they were changed as well; of more
# it is taken for granted.
MAX_IN_DOUBT = 500

# Digests that were noted down, by position.
Noted = Mapping[int, bytes]


class Witness:
    """Digests that were noted down, by position, compared as positions go by."""

    def __init__(self, noted: Noted, findings: Findings) -> None:
        self._left = dict(sorted(noted.items()))
        self._findings = findings
        self.next = next(iter(self._left), 0)

    def take(self, position: int, digest: bytes | None) -> None:
        """`digest` is the one at `position`, None if it is not there; nor is a smaller position that is left."""
        while self.next and self.next <= position:
            found = digest if self.next == position else None
            expected = self._left.pop(self.next)
            if found != expected:
                said = "no entry" if found is None else f"digest {found.hex()}"
                what = f"digest {expected.hex()}, as was noted"
                self._findings.add(Finding(kind="not-as-noted", position=self.next, expected=what, found=said))
            self.next = next(iter(self._left), 0)

    def end(self) -> None:
        """There is nothing after this."""
        self.take(max(self._left, default=0), None)


class ChainCheck:
    """Given every entry of a log in order; `digest` is that of the last one, `position` its position."""

    def __init__(self, findings: Findings, noted: Noted) -> None:
        self._findings = findings
        self._witness = Witness(noted, findings)
        self._time = datetime.min.replace(tzinfo=UTC)
        self._time_text = b""
        # What the digest before should have been, if it is another.
        self._due: bytes | None = None
        self._doubtful: list[tuple[SealedEntry, bytes]] = []
        # Digests of entries that may not be in their place.
        self._misplaced: list[bytes] = []
        self.position = 0
        self.digest = BEGINNING

    def take(self, entries: Iterable[SealedEntry]) -> None:
        for entry in entries:
            position, recorded_at, stream, version, name, state, digest = entry
            if recorded_at != self._time:
                self._time, self._time_text = recorded_at, time_text(recorded_at).encode()
            line = LINE % (position, self._time_text, quoted(stream), version, quoted(name), state)
            due = seal(self.digest, line)
            if due != digest or position != self.position + 1:
                self._look(entry, line, due)
            else:
                self._due = None
            self.position, self.digest = position, digest
            if 0 < self._witness.next <= position:
                self._witness.take(position, digest)

    def end(self) -> None:
        """Judge what was left in doubt."""
        for entry, line in self._doubtful:
            if not any(seal(before, line) == entry.digest for before in self._misplaced):
                self._changed(entry)
        self._witness.end()

    def _look(self, entry: SealedEntry, line: bytes, due: bytes) -> None:
        """It was not sealed with these bytes; or it was, but with another digest before it than the one that is there.

        The other one may be what the entry before should have had, or that of an entry that is now elsewhere.
        """
        follows = entry.position == self.position + 1
        was_due, self._due = self._due, due
        if len(self._misplaced) < MAX_IN_DOUBT:
            self._misplaced.append(entry.digest)
            if not follows:
                self._misplaced.append(self.digest)
        if not follows:
            return  # the digest that it was sealed with is not there
        if was_due is None:
            self._changed(entry)
        elif seal(was_due, line) == entry.digest:
            self._due = None
        elif len(self._doubtful) < MAX_IN_DOUBT:
            self._doubtful.append((entry, line))
        else:
            self._changed(entry)

    def _changed(self, entry: SealedEntry) -> None:
        self._findings.at(entry, "seal", f"the bytes that were sealed with {entry.digest.hex()}", "others")
