"""`stockledger keys`: make, list and revoke the keys of the HTTP API. A key is shown once, when it is made."""

import argparse
import re
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from api.access.keys import hash_of, new_key
from api.access.scopes import ACTOR_WITHOUT_KEYS, SCOPES
from api.database import database
from api.importing.rows import ACTOR as IMPORT_ACTOR
from api.settings import SettingError, Settings
from ledger.reservations.carts import EXPIRY_ACTOR
from ledger.store import keys
from ledger.store.connection import Connection, connect
from ledger.store.entry_lines import time_text
from ledger.store.keys import KeptKey

# The log's actor is the name of a key, so none may be taken for another. Subjects of tokens have a colon in theirs.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_RESERVED = {ACTOR_WITHOUT_KEYS, EXPIRY_ACTOR, IMPORT_ACTOR, "nobody"}
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
MAX_DAYS = 36_500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=tuple(_ACTIONS), help="what to do")
    parser.add_argument(
        "name", nargs="?", help="the key's name, which the log shows as the actor: for create and revoke"
    )
    parser.add_argument(
        "--scope", action="append", choices=SCOPES, default=[], help="what the key may do; once for each: for create"
    )
    parser.add_argument("--expires", metavar="WHEN", help="when it ends, such as 90d, 12h or 2027-01-31T00:00:00Z")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(settings: Settings, chosen: argparse.Namespace) -> int:
    """Raises SettingError for arguments that do not fit each other, KeyRefusedError."""
    if chosen.action != "create" and (chosen.scope or chosen.expires):
        raise SettingError("--scope and --expires belong to keys create")
    if (chosen.action == "list") != (chosen.name is None):
        raise SettingError("keys create and keys revoke take a name, keys list takes none")
    expires = None if chosen.expires is None else _expires(chosen.expires)
    if chosen.action == "create":
        _check_new(chosen.name, chosen.scope)
    with database(settings, as_owner=True) as (url, _), connect(url, settings.schema, "stockledger keys") as conn:
        print(_ACTIONS[chosen.action](conn, chosen, expires))
    return 0


def _check_new(name: str, scopes: list[str]) -> None:
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise SettingError(
            "a key's name has 1 to 64 letters, digits and . _ @ -, a letter or digit first, and is none of "
            + ", ".join(sorted(_RESERVED))
        )
    if not scopes:
        raise SettingError(f"a key needs at least one --scope of {', '.join(SCOPES)}")


def _expires(text: str) -> datetime | timedelta:
    if span := re.fullmatch(r"([0-9]{1,9})([dhm])", text, re.ASCII):
        after = timedelta(**{_UNITS[span[2]]: int(span[1])})
        if timedelta(0) < after <= timedelta(days=MAX_DAYS):
            return after
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise SettingError("--expires must be such as 90d, 12h, 30m or 2027-01-31T00:00:00Z")
    return at


def _create(conn: Connection, chosen: argparse.Namespace, expires: datetime | timedelta | None) -> str:
    key, scopes = new_key(), [scope for scope in SCOPES if scope in chosen.scope]
    expires_at = keys.create(conn, chosen.name, hash_of(key), scopes, expires)
    if chosen.json:
        return _json({"name": chosen.name, "key": key, "scopes": scopes, "expires_at": expires_at})
    return (
        f"name     {chosen.name}\nscopes   {' '.join(scopes)}\nexpires  {_time(expires_at, 'never')}\n"
        f"key      {key}\nIt is shown this once: only its hash is kept."
    )


def _list(conn: Connection, chosen: argparse.Namespace, _: object) -> str:
    found = keys.every(conn)
    if chosen.json:
        return _json({"keys": found})
    rows = [("NAME", "STATE", "CREATED", "EXPIRES", "LAST USED", "SCOPES"), *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[5]]) for row in rows
    )


def _row(key: KeptKey) -> tuple[str, ...]:
    times = (_time(key.created_at, ""), _time(key.expires_at, "never"), _time(key.last_used_at, "never"))
    return (key.name, key.state, *times, " ".join(key.scopes))


def _revoke(conn: Connection, chosen: argparse.Namespace, _: object) -> str:
    revoked_at = keys.revoke(conn, chosen.name)
    if chosen.json:
        return _json({"name": chosen.name, "revoked_at": revoked_at})
    return f"{chosen.name} was revoked at {_time(revoked_at, '')}; every process knows within 2 seconds"


_ACTIONS: dict[str, Callable[[Connection, argparse.Namespace, datetime | timedelta | None], str]] = {
    "create": _create,
    "list": _list,
    "revoke": _revoke,
}


def _json(answer: object) -> str:
    return msgspec.json.encode(answer).decode()


def _time(at: datetime | None, without: str) -> str:
    return without if at is None else time_text(at)
