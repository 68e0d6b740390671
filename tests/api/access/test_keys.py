"""API keys: made and revoked on the command line, and as a process holds them."""

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from falcon.testing import TestClient

from api.access import keys as held_keys
from api.access.keys import TRUSTED_SECONDS, UNKNOWN_SECONDS, HeldKeys, hash_of, new_key
from api.cli import main
from ledger.errors import DatabaseAwayError
from ledger.store import keys
from ledger.store.connection import Connection, connect
from tests.api.conftest import MakeKey

Keys = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], postgres_url: str, schema: str) -> Keys:
    """Runs `stockledger keys` and gives its status, what it printed, and its complaint."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["keys", *arguments, "--database-url", postgres_url, "--schema", schema])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def created(command: Keys, *arguments: str) -> Any:
    status, printed, _ = command("create", *arguments, "--json")
    assert status == 0
    return json.loads(printed)


def use_at(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have the clock of held keys show so many seconds later."""
    later = time.monotonic() + seconds
    monkeypatch.setattr(held_keys.time, "monotonic", lambda: later)


def test_a_key_is_shown_once_and_kept_as_a_hash(command: Keys, conn: Connection, held: HeldKeys):
    made = created(command, "shop", "--scope", "stock:write", "--scope", "read")

    row = conn.execute("SELECT to_jsonb(k)::text FROM api_keys AS k").fetchone()
    held._turn()
    assert made["key"].startswith("slk_")
    assert len(made["key"]) == 4 + 43  # 256 bits
    assert made["key"] not in row[0]
    assert made["scopes"] == ["stock:write", "read"]
    caller = held.find(made["key"])
    assert (caller.actor, caller.scopes) == ("shop", {"stock:write", "read"})
    listed = json.loads(command("list", "--json")[1])["keys"]
    assert [(key["name"], key["state"], key["expires_at"]) for key in listed] == [("shop", "live", None)]
    assert made["key"] not in command("list")[1]


def test_what_people_read_says_the_same(command: Keys):
    status, printed, _ = command("create", "shop", "--scope", "read", "--expires", "90d")
    lines = dict(line.split(maxsplit=1) for line in printed.splitlines()[:4])

    assert status == 0
    assert (lines["name"], lines["scopes"]) == ("shop", "read")
    assert lines["key"].startswith("slk_")
    ends = datetime.fromisoformat(lines["expires"]) - datetime.now(UTC)
    assert timedelta(days=89, hours=23) < ends <= timedelta(days=90)
    assert command("revoke", "shop")[1].startswith("shop was revoked at ")
    assert command("list")[1].splitlines()[1].split()[:2] == ["shop", "revoked"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["create", "shop"], "a key needs at least one --scope"),
        (["create"], "keys create and keys revoke take a name"),
        (["list", "shop"], "keys list takes none"),
        (["list", "--scope", "read"], "belong to keys create"),
        (["create", "anonymous", "--scope", "read"], "a key's name"),
        (["create", "expiry", "--scope", "read"], "a key's name"),
        (["create", "a:b", "--scope", "read"], "a key's name"),
        (["create", "a\n", "--scope", "read"], "a key's name"),
        (["create", "x" * 65, "--scope", "read"], "a key's name"),
        (["create", "shop", "--scope", "read", "--expires", "soon"], "--expires must be"),
        (["create", "shop", "--scope", "read", "--expires", "0d"], "--expires must be"),
        (["create", "shop", "--scope", "read", "--expires", "999999999d"], "--expires must be"),
        (["create", "shop", "--scope", "read", "--expires", "2027-01-31"], "--expires must be"),
    ],
)
def test_what_makes_no_sense_is_refused_with_one_line(command: Keys, arguments: list[str], complaint: str):
    status, printed, error = command(*arguments)

    assert (status, printed, len(error.splitlines())) == (2, "", 1)
    assert complaint in error


def test_a_name_is_given_once_and_a_past_end_or_an_unknown_name_are_refused(command: Keys, conn: Connection):
    created(command, "shop", "--scope", "read")
    command("revoke", "shop")

    assert command("create", "shop", "--scope", "read")[0] == 1
    assert "is past" in command("create", "old", "--scope", "read", "--expires", "2020-01-01T00:00:00Z")[2]
    assert "there is no key 'nobody-has'" in command("revoke", "nobody-has")[2]
    assert conn.execute("SELECT name FROM api_keys").fetchall() == [("shop",)]


def test_the_services_own_role_can_neither_make_nor_revoke_keys(service_url: str, schema: str, make_key: MakeKey):
    key = make_key("shop", "read")

    with connect(service_url, schema) as service:
        for forbidden in (
            lambda: keys.create(service, "other", hash_of(new_key()), ["read"], None),
            lambda: keys.revoke(service, "shop"),
        ):
            with pytest.raises(keys.KeyRefusedError, match="this login may not"):
                forbidden()
        assert [live.hash for live in keys.live(service)] == [hash_of(key)]


def test_revoking_again_says_when_it_was_revoked(command: Keys):
    created(command, "shop", "--scope", "read")

    first, second = (json.loads(command("revoke", "shop", "--json")[1]) for _ in range(2))

    assert first == second


def test_there_are_not_more_live_keys_than_a_process_holds(conn: Connection, monkeypatch: pytest.MonkeyPatch):
    conn.execute(
        "INSERT INTO api_keys (name, hash, scopes) SELECT n, sha256(n::bytea), '{read}'"
        " FROM (SELECT generate_series(1, %s)::text AS n) AS names",
        [keys.MAX_LIVE_KEYS],
    )

    with pytest.raises(keys.KeyRefusedError, match="revoke one first"):
        keys.create(conn, "more", hash_of(new_key()), ["read"], None)
    keys.revoke(conn, "7")
    keys.create(conn, "more", hash_of(new_key()), ["read"], None)


# As a process holds them


def test_a_held_key_counts_until_it_is_revoked_and_new_ones_come_by_themselves(
    held: HeldKeys, conn: Connection, make_key: MakeKey
):
    key = make_key("shop", "read")
    began = time.monotonic()
    while held.find(key) is None:
        assert time.monotonic() < began + 20
        threading.Event().wait(0.01)

    keys.revoke(conn, "shop")
    while held.find(key) is not None:
        assert time.monotonic() < began + 40
        threading.Event().wait(0.01)


def test_a_key_ends_by_the_clock_between_two_readings(
    held: HeldKeys, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
):
    key = make_key("shop", "read", lasts=timedelta(seconds=20))
    held._turn()
    monkeypatch.setattr(held, "_turn", lambda: None)

    use_at(monkeypatch, 15)
    assert held.find(key) is not None
    use_at(monkeypatch, 6)
    assert held.find(key) is None


def test_the_end_of_a_key_is_the_databases_even_where_the_local_clock_is_wrong(
    held: HeldKeys, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
):
    key = make_key("shop", "read", lasts=timedelta(hours=1))
    monkeypatch.setattr(time, "time", lambda: 4e9)

    held._turn()

    assert held.find(key) is not None


def test_without_the_database_keys_count_a_while_and_then_nobody_is_let_in(
    held: HeldKeys, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
):
    key, unknown = make_key("shop", "read"), new_key()
    held._turn()
    monkeypatch.setattr(held, "_turn", lambda: None)

    use_at(monkeypatch, UNKNOWN_SECONDS - 1)
    assert (held.find(key) is not None, held.find(unknown)) == (True, None)
    use_at(monkeypatch, 2)
    assert held.find(key) is not None
    with pytest.raises(DatabaseAwayError):
        held.find(unknown)
    use_at(monkeypatch, TRUSTED_SECONDS - UNKNOWN_SECONDS)
    with pytest.raises(DatabaseAwayError):
        held.find(key)


def test_a_connection_that_is_lost_is_opened_again(held: HeldKeys, conn: Connection, make_key: MakeKey):
    key = make_key("shop", "read")
    conn.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'stockledger keys' AND datname = current_database()"
    )
    while held.find(key) is None:
        held._turn()


def test_without_a_database_at_the_start_requests_hear_that_it_is_away():
    held = HeldKeys("postgresql://127.0.0.1:1/nowhere", "nowhere")
    try:
        with pytest.raises(DatabaseAwayError):
            held.find(new_key())
    finally:
        held.close()


def test_the_last_use_is_written_down_later_and_at_the_end(
    service_url: str, schema: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(held_keys, "WRITE_USED_EVERY_SECONDS", 3600.0)
    key, other = new_key(), new_key()
    for name, each in (("shop", key), ("other", other)):
        keys.create(conn, name, hash_of(each), ["read"], None)
    held = HeldKeys(service_url, schema)

    assert held.find(key) is not None
    held._turn()
    unused = conn.execute("SELECT count(last_used_at) FROM api_keys").fetchone()
    held.close()

    assert unused == (0,)
    used = conn.execute(
        "SELECT name, clock_timestamp() - last_used_at < '1 min' FROM api_keys WHERE last_used_at IS NOT NULL"
    )
    assert used.fetchall() == [("shop", True)]


def test_a_revoked_key_may_do_nothing_a_moment_later(
    guarded: TestClient, held: HeldKeys, conn: Connection, make_key: MakeKey
):
    headers = {"Authorization": f"Bearer {make_key('shop', 'stock:write', 'catalog:write')}"}
    held._turn()
    assert guarded.simulate_put("/api/fungible/A", headers=headers).status_code == 200

    keys.revoke(conn, "shop")
    held._turn()

    assert guarded.simulate_put("/api/fungible/A", headers=headers).status_code == 401
