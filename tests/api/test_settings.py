"""Settings: what they are by default, who wins, and that a bad one is refused with one clear line."""

import os
import socket
from pathlib import Path

import pytest
from msgspec.structs import asdict

from api.cli import COMMANDS, Command, main
from api.settings import SETTINGS, SettingError, Settings, read_settings

SECRET = "open-sesame"
# By setting: the member of Settings, and texts with what they mean.
GOOD = {
    "STOCKLEDGER_HOST": ("host", {"0.0.0.0": "0.0.0.0", "::1": "::1", "shop.example": "shop.example"}),
    "STOCKLEDGER_PORT": ("port", {"0": 0, "8080": 8080, "65535": 65535}),
    "STOCKLEDGER_DATA_DIR": ("data_dir", {"/not/there/yet": Path("/not/there/yet"), "here": Path.cwd() / "here"}),
    "STOCKLEDGER_WORKERS": ("workers", {"1": 1, "64": 64}),
    "STOCKLEDGER_THREADS": ("threads", {"1": 1, "256": 256}),
    "STOCKLEDGER_SCHEMA": ("schema", {"shop_2": "shop_2", "_": "_", "s" * 51: "s" * 51}),
    "STOCKLEDGER_RESERVATION_TTL": ("reservation_ttl_seconds", {"1": 1, "2592000": 2_592_000}),
    "STOCKLEDGER_IDEMPOTENCY_DAYS": ("idempotency_days", {"1": 1, "365": 365}),
    "STOCKLEDGER_AUTH": ("auth", {"on": True, "off": False, "auto": None}),
    "STOCKLEDGER_RATE_LIMIT": ("rate_limit", {"0": 0, "1000000": 1_000_000}),
    "STOCKLEDGER_RATE_BURST": ("rate_burst", {"1": 1, "1000000": 1_000_000}),
    "STOCKLEDGER_EXPIRY_LAG_LIMIT": ("expiry_lag_limit_seconds", {"1": 1, "2592000": 2_592_000}),
    "STOCKLEDGER_FOLLOWER_LAG_LIMIT": ("follower_lag_limit_seconds", {"1": 1, "2592000": 2_592_000}),
    "STOCKLEDGER_LOG": ("log", {"json": "json", "text": "text", "auto": "auto"}),
    "STOCKLEDGER_LOG_LEVEL": ("log_level", {"debug": "debug", "info": "info", "error": "error"}),
    "STOCKLEDGER_ACCESS_LOG": ("access_log", {"on": True, "off": False}),
    "STOCKLEDGER_SLOW_MS": ("slow_ms", {"1": 1, "60000": 60_000}),
    "STOCKLEDGER_TRACES": ("traces", {"on": True, "off": False}),
    "STOCKLEDGER_CORS_ORIGINS": (
        "cors_origins",
        {
            "https://shop.example": ("https://shop.example",),
            "http://localhost:3000, https://[::1]": ("http://localhost:3000", "https://[::1]"),
        },
    ),
    "STOCKLEDGER_JWT_ISSUER": ("jwt_issuer", {"https://id.example/": "https://id.example/", "x": "x"}),
    "STOCKLEDGER_JWT_AUDIENCE": ("jwt_audience", {"ledger": "ledger", "api://x": "api://x"}),
    "STOCKLEDGER_JWT_KEYS": ("jwt_keys", {"/etc/keys.json": "/etc/keys.json", "https://id/keys": "https://id/keys"}),
    "STOCKLEDGER_JWT_SCOPE_CLAIM": ("jwt_scope_claim", {"scp": "scp", "permissions": "permissions"}),
    "DATABASE_URL": (
        "database_url",
        {url: url for url in ("postgresql://h/d", "postgres:///d?host=/tmp", f"postgresql://u:{SECRET}@[::1]:5433/d")},
    ),
}
BAD = {
    "STOCKLEDGER_HOST": ["a b", "a\tb"],
    "STOCKLEDGER_PORT": ["65536", "-1", "http", "80.0", "8 0", "0x50", "٨٠", "9" * 30],
    "STOCKLEDGER_DATA_DIR": [__file__, "~no-such-user-here/data"],
    "STOCKLEDGER_WORKERS": ["0", "65", "many"],
    "STOCKLEDGER_THREADS": ["0", "257", "1e2"],
    "STOCKLEDGER_SCHEMA": ["Shop", "2shop", "shop-2", 'shop"', "pg_shop", "s" * 52, "a,b", "shöp"],
    "STOCKLEDGER_RESERVATION_TTL": ["0", "2592001", "1h"],
    "STOCKLEDGER_IDEMPOTENCY_DAYS": ["0", "366", "1.5"],
    "STOCKLEDGER_AUTH": ["yes", "ON", "true"],
    "STOCKLEDGER_RATE_LIMIT": ["-1", "1000001", "0.5"],
    "STOCKLEDGER_RATE_BURST": ["0", "1000001", "ten"],
    "STOCKLEDGER_EXPIRY_LAG_LIMIT": ["0", "2592001", "1m"],
    "STOCKLEDGER_FOLLOWER_LAG_LIMIT": ["0", "2592001", "-1"],
    "STOCKLEDGER_LOG": ["xml", "JSON"],
    "STOCKLEDGER_LOG_LEVEL": ["loud", "INFO", "20"],
    "STOCKLEDGER_ACCESS_LOG": ["yes", "1"],
    "STOCKLEDGER_SLOW_MS": ["0", "60001", "1.5"],
    "STOCKLEDGER_TRACES": ["true", "ON"],
    "STOCKLEDGER_CORS_ORIGINS": [
        "*",
        "null",
        "https://shop.example/",
        "shop.example",
        "https://a,,https://b",
        "HTTPS://A",
    ],
    "STOCKLEDGER_JWT_ISSUER": ["a b", "é"],
    "STOCKLEDGER_JWT_AUDIENCE": ["a b", "x" * 501],
    "STOCKLEDGER_JWT_KEYS": ["a b", "a\tb"],
    "STOCKLEDGER_JWT_SCOPE_CLAIM": ["a b", "a\tb"],
    "DATABASE_URL": [
        f"mysql://u:{SECRET}@h/d",
        f"u:{SECRET}@h/d",
        f"host=h user=u password={SECRET}",
        f"postgresql://u:{SECRET}@[::1/d",
        f"postgresql://u:{SECRET}%zz@h/d",
        f"postgresql://u:{SECRET}@h/d?no_such_option={SECRET}",
    ],
}
NAMES = [setting.name for setting in SETTINGS]
GOOD_ONES = [(name, text) for name in GOOD for text in GOOD[name][1]]
BAD_ONES = [(name, text) for name in BAD for text in BAD[name]]


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "500")  # help without line breaks


def test_every_setting_is_tried_here():
    assert list(GOOD) == list(BAD) == NAMES
    assert {member for member, _ in GOOD.values()} == set(Settings.__struct_fields__)


def test_without_any_setting_there_are_defaults():
    own = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "stockledger"

    assert read_settings({}, {}) == Settings(
        host="127.0.0.1",
        port=8000,
        data_dir=Path("/var/lib/stockledger") if os.geteuid() == 0 else own,
        workers=min(4, len(os.sched_getaffinity(0))),
        threads=32,
        schema="stockledger",
        reservation_ttl_seconds=3600,
        idempotency_days=7,
        auth=None,
        rate_limit=0,
        rate_burst=100,
        cors_origins=(),
        jwt_issuer=None,
        jwt_audience=None,
        jwt_keys=None,
        jwt_scope_claim="scope",
        expiry_lag_limit_seconds=60,
        follower_lag_limit_seconds=300,
        log="auto",
        log_level="info",
        access_log=False,
        slow_ms=1000,
        traces=False,
        database_url=None,
    )


@pytest.mark.parametrize(("name", "text"), GOOD_ONES)
def test_the_environment_and_a_flag_mean_the_same(name: str, text: str):
    member, values = GOOD[name]
    defaults = asdict(read_settings({}, {}))

    assert asdict(read_settings({}, {name: text})) == {**defaults, member: values[text]}
    assert asdict(read_settings({}, {name: f" {text}\n"})) == {**defaults, member: values[text]}
    assert asdict(read_settings({name: text}, {})) == {**defaults, member: values[text]}


@pytest.mark.parametrize("name", NAMES)
def test_a_flag_wins_over_the_environment(name: str):
    member, values = GOOD[name]
    first, second, *_ = values

    settings = read_settings({name: first}, {name: second})

    assert getattr(settings, member) == values[first] != values[second]


def test_a_flag_wins_over_a_bad_environment_too():
    assert read_settings({"STOCKLEDGER_PORT": "80"}, {"STOCKLEDGER_PORT": "http"}).port == 80


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_variable_is_none(name: str):
    assert read_settings({name: None}, {name: " "}) == read_settings({}, {})


def test_other_variables_do_not_matter():
    assert read_settings({}, {"PORT": "1", "STOCKLEDGER_PROT": "2", "PGHOST": "h"}) == read_settings({}, {})


@pytest.mark.parametrize(("name", "text"), BAD_ONES)
def test_a_bad_setting_is_refused_with_one_line_that_names_it(name: str, text: str):
    for flags, environment in (({}, {name: text}), ({name: text}, {})):
        with pytest.raises(SettingError) as refusal:
            read_settings(flags, environment)

        assert str(refusal.value).startswith(f"{name} ")
        assert len(str(refusal.value).splitlines()) == 1
        assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "DATABASE_URL"])
def test_an_empty_flag_is_refused(name: str):
    with pytest.raises(SettingError, match=f"^{name} "):
        read_settings({name: ""}, {})


# The command line


@pytest.mark.parametrize(("name", "text"), [(name, BAD[name][-1]) for name in NAMES])
def test_a_bad_setting_ends_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, text: str
):
    monkeypatch.setenv(name, text)

    status = main(["migrate"])

    printed = capsys.readouterr()
    assert (status, printed.out) == (2, "")
    assert printed.err.startswith(f"stockledger: {name} ")
    assert len(printed.err.splitlines()) == 1
    assert SECRET not in printed.err


def test_the_embedded_database_is_not_migrated_by_itself(capsys: pytest.CaptureFixture[str]):
    assert main(["migrate"]) == 2
    assert capsys.readouterr().err.startswith("stockledger: DATABASE_URL must be set")


def test_a_database_that_is_not_there_is_told_without_the_password(capsys: pytest.CaptureFixture[str]):
    status = main(["migrate", "--database-url", f"postgresql://u:{SECRET}@127.0.0.1:1/d"])

    printed = capsys.readouterr()
    assert (status, printed.out, len(printed.err.splitlines())) == (1, "", 1)
    assert printed.err.startswith("stockledger: the database cannot be used: ")
    assert SECRET not in printed.err


def test_a_port_that_is_taken_is_said_to_be_so(capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status = main(["serve", "--port", str(port), "--database-url", "postgresql://127.0.0.1:1/d"])

    printed = capsys.readouterr()
    assert (status, printed.out, len(printed.err.splitlines())) == (2, "", 1)
    assert printed.err.startswith("stockledger: STOCKLEDGER_HOST and STOCKLEDGER_PORT cannot be used: 127.0.0.1:")


def test_migrate_says_what_it_did(capsys: pytest.CaptureFixture[str], postgres_url: str, schema: str):
    assert main(["migrate", "--database-url", postgres_url, "--schema", schema]) == 0
    assert capsys.readouterr().out == "nothing to do\n"


def help_of(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_help_of_a_command_names_the_settings_that_it_heeds_and_no_other(
    capsys: pytest.CaptureFixture[str], command: Command
):
    text = help_of(capsys, command.name)

    for setting in SETTINGS:
        heeded = setting.name.removeprefix("STOCKLEDGER_") in command.uses
        assert (f"{setting.flag} VALUE" in text) == heeded
        assert (f"[{setting.name}]" in text) == heeded
        assert setting.default in text or not heeded


def test_every_setting_is_heeded_and_every_heeded_one_is_a_setting():
    heeded = {name for command in COMMANDS for name in command.uses}

    assert heeded == {setting.name.removeprefix("STOCKLEDGER_") for setting in SETTINGS}


def test_the_help_names_every_command_and_every_setting(capsys: pytest.CaptureFixture[str]):
    text = help_of(capsys)

    assert [command.name for command in COMMANDS if command.name not in text] == []
    assert [name for name in NAMES if name not in text] == []


def test_a_command_is_needed_and_an_unknown_flag_refused(capsys: pytest.CaptureFixture[str]):
    for arguments in ([], ["sell"], ["serve", "--prot", "80"]):
        with pytest.raises(SystemExit) as end:
            main(arguments)

        assert end.value.code == 2
        assert "usage: stockledger" in capsys.readouterr().err
