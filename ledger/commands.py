"""What every command has in common: who asks, in which request, and why. Commands are in the rooms' `commands.py`.

Ids and durations come in as arguments; the database's clock gives the time.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from ledger.errors import PreconditionFailedError


class Key(Struct, frozen=True):
    """An idempotency key and the SHA-256 of the request it came with."""

    key: str
    request_hash: bytes


class Precondition(Struct, frozen=True):
    """What must hold of the product or item before: no `versions` mean it must not exist, None means any version."""

    versions: frozenset[int] | None

    def check(self, version: int | None) -> None:
        """Raises PreconditionFailedError; `version` is None where there is nothing yet."""
        if self.versions is None:
            holds = version is not None
        elif self.versions:
            holds = version in self.versions
        else:
            holds = version is None
        if not holds:
            raise PreconditionFailedError(version, wanted_absent=self.versions == frozenset())


class Command(Struct, frozen=True, kw_only=True):
    """Who asks, in which request, and why."""

    actor: str = "anonymous"
    request_id: str = ""
    reason: str | None = None
    reference: str | None = None
    key: Key | None = None
    precondition: Precondition | None = None

    def by(self) -> dict[str, Any]:
        """Who and why, as every event carries it."""
        return {
            "actor": self.actor,
            "request_id": self.request_id,
            "reason": self.reason,
            "reference": self.reference,
        }

    def check(self, version: int | None) -> None:
        """Raises PreconditionFailedError unless the caller's precondition, if any, holds of `version`."""
        if self.precondition is not None:
            self.precondition.check(version)


class Group(Struct, frozen=True):
    """Commands of one caller, in order: each for itself, or all or nothing.

    `key` came with the request for all of them; each command has one of its own made of it.
    """

    commands: Sequence[Command]
    atomic: bool = False
    key: Key | None = None
