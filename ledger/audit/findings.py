"""What an audit finds: where, what was expected and what is there. All are counted, the first of each kind are kept."""

from collections import Counter
from typing import Protocol

from msgspec import Struct

MAX_KEPT_OF_A_KIND = 20


class Place(Protocol):
    """Where in the log: an entry, decoded or not."""

    @property
    def position(self) -> int: ...
    @property
    def stream(self) -> str: ...
    @property
    def version(self) -> int: ...


class Finding(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`kind` is one of those that docs/auditing.md explains.

    Of the log it names `position`, `stream` and `version`; of a read model `table`, `key` and `column`; of an export
    `file`. `expected` is what must be there, `found` what is.
    """

    kind: str
    expected: str
    found: str
    position: int | None = None
    stream: str | None = None
    version: int | None = None
    table: str | None = None
    key: dict[str, str] | None = None
    column: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        where = []
        if self.file is not None:
            where.append(self.file)
        if self.table is not None:
            key = ", ".join(f"{name} {value}" for name, value in (self.key or {}).items())
            where.append(f"table {self.table}, {key}" + (f", column {self.column}" if self.column else ""))
        if self.position is not None:
            where.append(f"position {self.position}")
        if self.stream is not None:
            where.append(f"{self.stream}" + (f" version {self.version}" if self.version is not None else ""))
        return f"{self.kind}: {', '.join(where)}: expected {self.expected}; found {self.found}"


class Findings:
    """`counts` by kind, and the first of each kind in `kept`."""

    def __init__(self, max_kept_of_a_kind: int = MAX_KEPT_OF_A_KIND) -> None:
        self.counts: Counter[str] = Counter()
        self.kept: list[Finding] = []
        self.max_kept = max_kept_of_a_kind

    def add(self, finding: Finding) -> None:
        self.counts[finding.kind] += 1
        if self.counts[finding.kind] <= self.max_kept:
            self.kept.append(finding)

    def join(self, others: "Findings") -> None:
        """Those of another check of the same log."""
        self.counts += others.counts
        self.kept += others.kept

    def at(self, place: Place, kind: str, expected: object, found: object) -> None:
        """Something is wrong with an entry of the log."""
        self.add(
            Finding(
                kind=kind,
                expected=str(expected),
                found=str(found),
                position=place.position,
                stream=place.stream,
                version=place.version,
            )
        )

    @property
    def total(self) -> int:
        return self.counts.total()
