"""Keys on a real service: when they are asked for, and that all its processes know of them."""

import http.client
import json
import time
from contextlib import ExitStack, closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from api.access.access_policy import AccessPolicy
from api.cli import main
from api.server.server import open_socket
from api.settings import SettingError, read_settings
from tests.service import RunningService, running_service

PATIENCE_SECONDS = 20.0
CONNECTIONS = 12


def ask(connection: http.client.HTTPConnection, key: str) -> int:
    connection.request("PUT", "/api/fungible/A", headers={"Authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def ask_until(statuses: set[int], connections: list[http.client.HTTPConnection], key: str) -> None:
    """Ask on all connections until each answers with one of these statuses."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not {ask(connection, key) for connection in connections} <= statuses:
        assert time.monotonic() < until, f"not every connection answers {statuses}"
        time.sleep(0.05)


def connect(service: RunningService) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=PATIENCE_SECONDS)


def test_every_process_learns_of_a_new_key_and_of_its_end(
    postgres_url: str, schema: str, capsys: pytest.CaptureFixture[str]
):
    where = {"DATABASE_URL": postgres_url, "STOCKLEDGER_SCHEMA": schema}
    flags = ["--database-url", postgres_url, "--schema", schema]

    def keys(*arguments: str) -> Any:
        assert main(["keys", *arguments, "--json", *flags]) == 0
        return json.loads(capsys.readouterr().out)

    with running_service({**where, "STOCKLEDGER_AUTH": "on"}) as service, ExitStack() as stack:
        opened = [stack.enter_context(closing(connect(service))) for _ in range(CONNECTIONS)]
        assert {ask(connection, "slk_nothing") for connection in opened} == {401}
        key = keys("create", "shop", "--scope", "catalog:write")["key"]
        ask_until({200}, opened, key)
        keys("revoke", "shop")
        ask_until({401, 429}, opened, key)  # 429 once it has failed often
        assert service.stop() == 0
    assert keys("list")["keys"][0]["last_used_at"] is not None


@pytest.mark.parametrize(
    ("host", "database", "auth", "takes_keys"),
    [
        ("127.0.0.1", False, "auto", False),
        ("localhost", False, "auto", False),
        ("127.0.0.1", True, "auto", True),
        ("0.0.0.0", False, "auto", True),
        ("0.0.0.0", True, "auto", True),
        ("127.0.0.1", False, "on", True),
        ("127.0.0.1", True, "off", False),
        ("0.0.0.0", False, "on", True),
    ],
)
def test_keys_are_asked_for_unless_only_this_machine_can_reach_a_private_database(
    host: str, database: bool, auth: str, takes_keys: bool
):
    url = {"DATABASE_URL": "postgresql://h/d"} if database else {}
    settings = read_settings({}, {"STOCKLEDGER_HOST": host, "STOCKLEDGER_AUTH": auth} | url)
    with open_socket(host, 0) as sock:
        assert AccessPolicy(settings, sock).takes_keys == takes_keys


def test_off_is_refused_where_others_can_reach_the_service(capsys: pytest.CaptureFixture[str]):
    flags = ["--host", "0.0.0.0", "--port", "0", "--auth", "off", "--database-url", "postgresql://127.0.0.1:1/d"]

    assert main(["serve", *flags]) == 2

    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    assert printed.err.startswith("stockledger: STOCKLEDGER_AUTH cannot be off on 0.0.0.0")
    with open_socket("0.0.0.0", 0) as sock, pytest.raises(SettingError):
        AccessPolicy(read_settings({}, {"STOCKLEDGER_AUTH": "off"}), sock)
