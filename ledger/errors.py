"""What the ledger refuses, whatever the business: the tree of refusals. Each room has its own in `errors.py`.

An error's text is the sentence a caller reads; `members` is the data beside it.
"""

from collections.abc import Mapping
from typing import Any


class LedgerError(Exception):
    """Base of all; `position` is the log position that the answer reflects, where one was read."""

    position: int | None = None

    def __init__(self, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.members: dict[str, Any] = members


class InvalidError(LedgerError):
    """Well-formed input that cannot be meant: `errors` names each bad member and says what it must be."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{member} {must}" for member, must in errors.items()), errors=dict(errors))


class UnknownError(LedgerError):
    pass


class RefusedError(LedgerError):
    pass


# A reader's place is not in this log: it was restored from a backup, or is another's.


class AheadOfLogError(RefusedError):
    def __init__(self, after: int, last: int) -> None:
        super().__init__(
            f"Position {after} is beyond the log, which ends at {last}: it is not the log that was read up to there,"
            " or was restored from a backup.",
            after=after,
            last=last,
        )
        self.position = last


class OtherHistoryError(RefusedError):
    def __init__(self, after: int, digest: str, last: int) -> None:
        super().__init__(
            f"At position {after} this log has digest {digest}: another history was read up to there.",
            after=after,
            digest=digest,
        )
        self.position = last


class PreconditionFailedError(LedgerError):
    def __init__(self, version: int | None, *, wanted_absent: bool) -> None:
        if wanted_absent:
            text = "It exists already."
        else:
            text = "It does not exist." if version is None else f"It has version {version}."
        super().__init__(text, version=version)


class KeyReusedError(LedgerError):
    def __init__(self, key: str) -> None:
        super().__init__("This Idempotency-Key was used with another request.", idempotency_key=key)


class AbandonedError(RefusedError):
    """Refused only because another command of the same all-or-nothing group was."""

    def __init__(self) -> None:
        super().__init__("Not carried out, because another command of the batch was refused.")


class UnavailableError(LedgerError):
    retry_after_seconds = 1


class BusyError(UnavailableError):
    def __init__(self) -> None:
        super().__init__("More is asked of the ledger than it can do at the moment; nothing was recorded.")


class DatabaseAwayError(UnavailableError):
    def __init__(self) -> None:
        super().__init__("The database cannot be reached; nothing was recorded.")


class OutcomeUnknownError(UnavailableError):
    def __init__(self) -> None:
        super().__init__(
            "The database did not say in time whether this was recorded. It is recorded at most once;"
            " try again with the same Idempotency-Key to learn the outcome."
        )


class DefectError(LedgerError):
    """A command met a defect of this service."""

    def __init__(self) -> None:
        super().__init__("The service could not carry this out; nothing was recorded.")


class UnreadableEventError(LedgerError):
    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"The log holds an event named {name!r} that cannot be read: {why}", name=name)
