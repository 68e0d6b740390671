"""Log lines on stderr: one JSON object each, or readable ones on a terminal; written behind the back of who logs.

A line never holds a password, a key, or what the database quotes of its rows; see `cleaned`.
"""

import json
import logging
import os
import re
import select
import sys
import threading
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

import msgspec

# Lines that wait to be written: more are dropped and counted, since a reader that stands still must not stop us.
MAX_WAITING = 10_000
CLOSE_SECONDS = PATIENCE_SECONDS = 1.0
MAX_TEXT = 20_000

_SECRETS = (
    (re.compile(r"(\w+://[^:/@\s]*:)[^\s/]*@"), r"\1***@"),
    (re.compile(r"(?i)(password\s*[=:]\s*)('[^']*'|\"[^\"]*\"|\S+)"), r"\1***"),
    (re.compile(r"(?i)(\bbearer\s+)\S+"), r"\1***"),
    # PostgreSQL quotes rows and parameters there.
    (re.compile(r"(?m)^(DETAIL|CONTEXT|LINE \d+):.*$"), r"\1: ***"),
)
_encoder = msgspec.json.Encoder()


def cleaned(text: str) -> str:
    """Text without what looks like a secret, or like data of a caller's."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text[:MAX_TEXT]


class JsonForm(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": cleaned(record.getMessage()),
            "pid": record.process,
            **_fields(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = cleaned(self.formatException(record.exc_info))
        return _encoder.encode(line).decode()


class TextForm(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).isoformat(" ", "milliseconds")
        # A caller's text must not look like a line of its own, nor move the cursor.
        message = json.dumps(cleaned(record.getMessage()))[1:-1]
        facts = "".join(f" {name}={json.dumps(fact)}" for name, fact in _fields(record).items())
        line = f"{time} {record.levelname} {record.name}: {message}{facts}"
        if record.exc_info and record.exc_info[0] is not None:
            line += "\n" + cleaned(self.formatException(record.exc_info))
        return line


class Writer(logging.Handler):
    """Writes to a file descriptor: at once, until `write_behind`; from then on in a thread, and who logs never waits.

    Past Python's own buffers, whose lock a writer that waits would keep from everybody, until the process ends.
    """

    def __init__(self, form: logging.Formatter, descriptor: int = 2) -> None:
        super().__init__()
        self.setFormatter(form)
        self.dropped = 0
        self._descriptor = descriptor
        self._waiting: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def write_behind(self) -> None:
        """After a fork only: a thread is not forked along."""
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._thread is None:
            # The parent of all processes has no thread, and must not wait for long either.
            if select.select([], [self._descriptor], [], PATIENCE_SECONDS)[1]:
                self._write(record)
            else:
                self.dropped += 1
        elif self._waiting.qsize() < MAX_WAITING:
            self._waiting.put(record)
        else:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, as far as that goes quickly."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join(CLOSE_SECONDS)
        super().close()

    def _work(self) -> None:
        while (record := self._waiting.get()) is not None:
            self._write(record)

    def _write(self, record: logging.LogRecord) -> None:
        try:
            rest = self.format(record).encode(errors="backslashreplace") + b"\n"
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except Exception:  # a line that cannot be written must not stop what it is about
            self.dropped += 1


def configure(form: str, level: str) -> None:
    """Log to stderr: `form` is json, text, or auto, which is text on a terminal; `level` as in logging."""
    readable = form == "text" or (form == "auto" and sys.stderr.isatty())
    writer = Writer(TextForm() if readable else JsonForm())
    logging.basicConfig(level=level.upper(), handlers=[writer])


def writer() -> Writer | None:
    """The one that `configure` has set up."""
    return next((handler for handler in logging.getLogger().handlers if isinstance(handler, Writer)), None)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields
