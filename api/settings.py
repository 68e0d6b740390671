"""Settings, by environment and by flag with the same names. A bad one is refused at start with one clear line."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
from msgspec import Struct
from psycopg.conninfo import conninfo_to_dict

from ledger.identifiers import MAX_TTL_SECONDS

PAGE_MARK = "<!-- made by `make docs` from api/settings.py -->\n"

_AUTH = {"auto": None, "on": True, "off": False}
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,50}")


class SettingError(Exception):
    """A setting that cannot be used; the text is one line that says which and why."""


class Settings(Struct, frozen=True, kw_only=True):
    host: str
    port: int
    data_dir: Path
    workers: int
    threads: int
    schema: str
    reservation_ttl_seconds: int
    idempotency_days: int
    auth: bool | None
    rate_limit: int
    rate_burst: int
    cors_origins: tuple[str, ...]
    jwt_issuer: str | None
    jwt_audience: str | None
    jwt_keys: str | None
    jwt_scope_claim: str
    expiry_lag_limit_seconds: int
    follower_lag_limit_seconds: int
    log: str
    log_level: str
    access_log: bool
    slow_ms: int
    traces: bool
    database_url: str | None


class Setting(Struct, frozen=True):
    """One setting, said once: `--help`, docs/settings.md and the check at start are made of it.

    `name` is the environment variable; the flag is the same without the prefix, in lower case. `parse` checks a text
    and gives the value, or raises SettingError with what it must be. `member` is where Settings has it; without it, it
    is called as the flag is. `shown` is the default as people read it, where it depends on the host; `absent` is the
    value where there is no text.
    """

    name: str
    default: str
    help: str
    parse: Callable[[str], Any]
    member: str = ""
    shown: str = ""
    absent: Any = None

    @property
    def flag(self) -> str:
        return "--" + self.name.removeprefix("STOCKLEDGER_").lower().replace("_", "-")

    @property
    def kept_as(self) -> str:
        return self.member or self.name.removeprefix("STOCKLEDGER_").lower()


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) or not low <= int(text) <= high:
            raise SettingError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise SettingError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return text

    return parse


def _switch(text: str) -> bool:
    return _one_of("on", "off")(text) == "on"


def _host(text: str) -> str:
    if not text or any(c.isspace() for c in text):
        raise SettingError("must be an address or host name")
    return text


def _schema(text: str) -> str:
    if not _SCHEMA.fullmatch(text) or text.startswith("pg_"):
        raise SettingError("must be a lower-case name of letters, digits and _, at most 51 characters, not pg_...")
    return text


def _folder(text: str) -> Path:
    if not text:
        raise SettingError("must be a folder")
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError:
        raise SettingError("names a home folder that there is not") from None
    if path.exists() and not path.is_dir():
        raise SettingError(f"{path} is not a folder")
    return path


def _url(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise SettingError("must begin with postgresql://")
    try:
        conninfo_to_dict(text)
    except psycopg.ProgrammingError:
        raise SettingError("is not a connection URL that PostgreSQL understands") from None
    return text


def _auth(text: str) -> bool | None:
    if text not in _AUTH:
        raise SettingError(f"must be {', '.join(_AUTH)}")
    return _AUTH[text]


def _origins(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(","))
    if not all(_ORIGIN.fullmatch(origin) for origin in found):
        raise SettingError("must be origins such as https://shop.example, with commas between them")
    return found


def _visible(text: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]{1,500}", text, re.ASCII):
        raise SettingError("must be 1 to 500 visible ASCII characters")
    return text


def _default_data_dir() -> str:
    """Root's own folders are closed to the user that PostgreSQL then runs as."""
    if os.geteuid() == 0:
        return "/var/lib/stockledger"
    return str(Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "stockledger")


def _default_workers() -> str:
    return str(min(4, len(os.sched_getaffinity(0))))


SETTINGS = (
    Setting("STOCKLEDGER_HOST", "127.0.0.1", "address to listen on", _host),
    Setting("STOCKLEDGER_PORT", "8000", "port to listen on (0: any free one)", _whole(0, 65_535)),
    Setting(
        "STOCKLEDGER_DATA_DIR",
        _default_data_dir(),
        "folder of the embedded PostgreSQL",
        _folder,
        shown="~/.local/share/stockledger; root: /var/lib/stockledger",
    ),
    Setting(
        "STOCKLEDGER_WORKERS", _default_workers(), "HTTP processes", _whole(1, 64), shown="one per core, at most 4"
    ),
    Setting(
        "STOCKLEDGER_THREADS",
        "32",
        "threads of each HTTP process, for lists, batches and the like: single calls need none",
        _whole(1, 256),
    ),
    Setting("STOCKLEDGER_SCHEMA", "stockledger", "schema that holds this ledger: one schema, one ledger", _schema),
    Setting(
        "STOCKLEDGER_RESERVATION_TTL",
        "3600",
        "seconds that a reservation lasts when the caller does not say",
        _whole(1, MAX_TTL_SECONDS),
        member="reservation_ttl_seconds",
    ),
    Setting(
        "STOCKLEDGER_IDEMPOTENCY_DAYS", "7", "days that answers are kept for their Idempotency-Key", _whole(1, 365)
    ),
    Setting(
        "STOCKLEDGER_AUTH",
        "auto",
        "on: requests need a key; off: none, on the loopback only; auto: off there with embedded data, else on",
        _auth,
    ),
    Setting(
        "STOCKLEDGER_RATE_LIMIT",
        "0",
        "requests a second that a key may make, over all processes; 0: as many as it likes",
        _whole(0, 1_000_000),
    ),
    Setting("STOCKLEDGER_RATE_BURST", "100", "requests that it may make at once before that", _whole(1, 1_000_000)),
    Setting(
        "STOCKLEDGER_EXPIRY_LAG_LIMIT",
        "60",
        "seconds that expired reservations may wait to be written down while the service counts as ready",
        _whole(1, MAX_TTL_SECONDS),
        member="expiry_lag_limit_seconds",
    ),
    Setting(
        "STOCKLEDGER_FOLLOWER_LAG_LIMIT",
        "300",
        "seconds that the read models of reports may be behind while it counts as ready",
        _whole(1, MAX_TTL_SECONDS),
        member="follower_lag_limit_seconds",
    ),
    Setting(
        "STOCKLEDGER_LOG",
        "auto",
        "log lines as json or text; auto: text on a terminal",
        _one_of("auto", "json", "text"),
    ),
    Setting(
        "STOCKLEDGER_LOG_LEVEL", "info", "debug, info, warning or error", _one_of("debug", "info", "warning", "error")
    ),
    Setting(
        "STOCKLEDGER_ACCESS_LOG",
        "off",
        "on: a log line for every request, not only those that fail or are slow",
        _switch,
    ),
    Setting("STOCKLEDGER_SLOW_MS", "1000", "milliseconds from which a request is logged as slow", _whole(1, 60_000)),
    Setting(
        "STOCKLEDGER_TRACES",
        "off",
        "on: OpenTelemetry traces, to where OTEL_... variables say; needs stockledger[otel]",
        _switch,
    ),
    Setting(
        "STOCKLEDGER_CORS_ORIGINS",
        "",
        "origins of pages in browsers that may call, with commas between them",
        _origins,
        absent=(),
    ),
    Setting(
        "STOCKLEDGER_JWT_ISSUER",
        "",
        "issuer whose tokens (JWT) count beside keys; with the next two, and the extra jwt",
        _visible,
    ),
    Setting("STOCKLEDGER_JWT_AUDIENCE", "", "audience that they must name", _visible),
    Setting("STOCKLEDGER_JWT_KEYS", "", "https URL or file of the issuer's keys (JWKS)", _visible),
    Setting("STOCKLEDGER_JWT_SCOPE_CLAIM", "scope", "claim of theirs that holds the scopes", _visible),
    Setting("DATABASE_URL", "", "PostgreSQL 15 or later to use; without it the embedded one", _url),
)


def read_settings(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> Settings:
    """Settings from flags (by setting name), else the environment, else defaults; raises SettingError."""
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        text = flags.get(setting.name)
        is_flag = text is not None
        if text is None:
            text = environment.get(setting.name, "").strip() or setting.default
        try:
            values[setting.kept_as] = setting.parse(text) if text or is_flag else setting.absent
        except SettingError as error:
            # The text itself is not repeated: a database URL may hold a password.
            raise SettingError(f"{setting.name} {error}") from None
    return Settings(**values)


def write_page(page: Path) -> None:
    """Make the table of docs/settings.md anew, between its mark and the next heading."""
    before, mark, rest = page.read_text().partition(PAGE_MARK)
    _, heading, after = rest.partition("\n## ")
    page.write_text(f"{before}{mark}{table()}{heading}{after}")


def table() -> str:
    """The settings as docs/settings.md has them: Markdown, a row for each."""
    rows = ["| name | flag | default | meaning |", "| --- | --- | --- | --- |"]
    for setting in SETTINGS:
        default = setting.shown or setting.default or "-"
        rows.append(f"| `{setting.name}` | `{setting.flag}` | {default} | {setting.help} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":  # `make docs`
    write_page(Path("docs/settings.md"))
