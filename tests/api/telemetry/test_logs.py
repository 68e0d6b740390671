"""Log lines: one a request at most, JSON that holds what it should, and never a secret or a body."""

import json
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from falcon import testing

from api.app import create_app
from api.http.service import Service
from api.telemetry import logs
from api.telemetry.logs import JsonForm, TextForm, Writer, cleaned
from api.telemetry.process import Telemetry
from api.telemetry.requests import MAX_UNAVAILABLE_LINES, Requests
from ledger.engine.ledger import Ledger
from ledger.store.connection import Connection
from projections.reader import Reader
from tests.chaos.service import wait_until
from tests.service import running_service

SECRET = "open-sesame"


def record(message: str, *args: object, error: BaseException | None = None, **fields: object) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("api.test", logging.WARNING, "", 0, message, args, exc_info)
    made.fields = fields
    return made


@pytest.fixture
def reader(service_url: str, schema: str) -> Iterator[Reader]:
    opened = Reader(service_url, schema, max_connections=2)
    yield opened
    opened.close()


# The real service


def test_every_line_of_the_service_is_json_and_holds_no_secret(
    postgres_url: str, schema: str, conn: Connection, tmp_path: Path
):
    settings = {
        "DATABASE_URL": f"{postgres_url}{'&' if '?' in postgres_url else '?'}password={SECRET}",
        "STOCKLEDGER_SCHEMA": schema,
        "STOCKLEDGER_ACCESS_LOG": "on",
        "STOCKLEDGER_LOG_LEVEL": "debug",
    }
    with (tmp_path / "log").open("w") as log, running_service(settings, log) as service:
        conn.execute("ALTER TABLE items RENAME TO elsewhere")  # what meets it is a defect
        for number, (method, path, body) in enumerate(
            [
                ("PUT", f"/api/fungible/{SECRET}", json.dumps({"description": SECRET})),
                ("PUT", f"/api/fungible/{SECRET}", SECRET),
                ("GET", f"/api/fungible/{SECRET}?{SECRET}={SECRET}", ""),
                ("PUT", f"/api/non-fungible/{SECRET}/{SECRET}", json.dumps({"notes": SECRET})),
                ("GET", f"/api/{SECRET}", ""),
            ]
        ):
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {SECRET}", "Cookie": SECRET}
            headers |= {"X-Request-Id": f"request-{number}", "Idempotency-Key": SECRET}
            asked = urllib.request.Request(service.url + path, body.encode(), headers, method=method)
            try:
                urllib.request.urlopen(asked, timeout=30).close()
            except urllib.error.HTTPError as error:
                error.close()
        assert service.stop() == 0
    text = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    by_request = {n: [line for line in lines if line.get("request_id") == f"request-{n}"] for n in range(5)}

    assert SECRET not in text
    assert all({"time", "level", "logger", "message", "pid"} <= set(line) for line in lines)
    (put,) = by_request[0]
    assert {name: put[name] for name in ("level", "method", "route", "status", "command", "position")} == {
        "level": "info",
        "method": "PUT",
        "route": "/api/fungible/{sku}",
        "status": 200,
        "command": "PutFungible",
        "position": 1,
    }
    assert put["duration_ms"] > 0
    assert [line["status"] for n in (1, 2, 4) for line in by_request[n]] == [400, 422, 404]
    assert by_request[4][0]["route"] == "unmatched"
    # The committer says what failed, with its stack; the request's own line, what its caller was told.
    said = {line["logger"]: line for line in by_request[3]}
    assert 'relation "items" does not exist' in said["ledger.engine.committer"]["exception"]
    assert said["api.telemetry.requests"]["problem"] == "internal-error"


# What is said of a request


def test_by_default_only_what_fails_or_is_slow_is_said(
    ledger: Ledger, reader: Reader, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    telemetry = Telemetry.alone()
    service = Service(ledger, reader, 3600, telemetry=telemetry)
    quiet = testing.TestClient(create_app(service, watched=Requests(telemetry, slow_seconds=1000)))
    slow = testing.TestClient(create_app(service, watched=Requests(telemetry, slow_seconds=0)))

    quiet.simulate_put("/api/fungible/A")
    quiet.simulate_get("/api/fungible/B")
    assert caplog.records == []
    slow.simulate_get("/api/fungible/A")
    slow.simulate_get("/api/events")
    monkeypatch.setattr(Ledger, "handle", lambda *_: 1 / 0)
    quiet.simulate_put("/api/fungible/A", headers={"X-Request-Id": "r1"})

    slow_one, failed = caplog.records
    assert (slow_one.levelname, slow_one.getMessage()) == ("WARNING", "GET /api/fungible/{sku} 200")
    assert (failed.levelname, failed.getMessage()) == ("ERROR", "PUT /api/fungible/{sku} 500")
    assert failed.fields["request_id"] == "r1"
    assert "ZeroDivisionError" in JsonForm().format(failed)


def test_under_overload_the_metrics_tell_of_every_request_and_the_log_only_of_some(
    client: testing.TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("api.http.requests.MAX_QUEUED_SECONDS", -1)
    monkeypatch.setattr("api.telemetry.requests.int", lambda _: 1, raising=False)
    for _ in range(50):
        assert client.simulate_get("/api/fungible/A").status_code == 503
    monkeypatch.undo()

    text = client.simulate_get("/metrics").text

    assert len(caplog.records) == MAX_UNAVAILABLE_LINES
    assert 'stockledger_http_problems_total{problem="busy"} 50.0' in text
    assert f"stockledger_log_lines_dropped_total {50.0 - MAX_UNAVAILABLE_LINES}" in text


# The form of a line


def test_a_line_is_one_line_whatever_is_in_it():
    nasty = 'a\nb\r\u2028\x1b[2J"\\'

    for form in (JsonForm(), TextForm()):
        line = form.format(record("%s", nasty, actor=nasty))
        assert "\n" not in line and "\x1b" not in line
    assert json.loads(JsonForm().format(record("%s", nasty, actor=nasty)))["actor"] == nasty


def test_secrets_of_connections_and_rows_are_left_out():
    for text in (
        f"postgresql://stock:{SECRET}@db/stock",
        f"connection to host=db password={SECRET} failed",
        f"password = '{SECRET} and more' x",
        f"Authorization: Bearer {SECRET}",
        f"ERROR: duplicate key\nDETAIL:  Key (key)=({SECRET}) already exists.",
    ):
        assert SECRET not in cleaned(text), text
        assert cleaned(text)
    assert cleaned("plain text, 5 % of it") == "plain text, 5 % of it"


def test_a_row_that_the_database_quotes_is_left_out(conn: Connection):
    insert = "INSERT INTO schema_migrations (version, name, checksum) VALUES (1, %s, '')"
    with pytest.raises(psycopg.errors.UniqueViolation) as raised:
        conn.execute(insert, [SECRET])
    with pytest.raises(psycopg.errors.NotNullViolation) as also_raised:
        conn.execute("INSERT INTO schema_migrations (version, name) VALUES (99, %s)", [SECRET])
    assert SECRET in str(also_raised.value)

    for error in (raised.value, also_raised.value):
        line = JsonForm().format(record("failed", error=error))
        assert "Violation" in line and SECRET not in line


# Writing


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that is full: whoever reads it stands still."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"." * 4096)
    os.set_blocking(writing, True)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def read_lines(descriptor: int) -> list[str]:
    """What is in the pipe behind its filling."""
    os.set_blocking(descriptor, False)
    found = b""
    with suppress(BlockingIOError):
        while True:
            found += os.read(descriptor, 1 << 16)
    return found.decode().lstrip(".").splitlines()


def test_who_logs_never_waits_and_lines_that_are_too_many_are_counted(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logs, "MAX_WAITING", 5)
    writer = Writer(TextForm(), pipe[1])
    writer.write_behind()
    writer.emit(record("line 0"))
    wait_until(lambda: writer._waiting.empty(), 10, "the first line is being written")

    for number in range(1, 11):
        writer.emit(record("line %d", number))
    os.read(pipe[0], 1 << 20)
    writer.close()

    assert writer.dropped == 5
    assert [line.rpartition(" ")[2] for line in read_lines(pipe[0])] == ["0", "1", "2", "3", "4", "5"]


def test_who_has_no_thread_for_it_waits_a_moment_and_goes_on(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs, "PATIENCE_SECONDS", 0.01)
    writer = Writer(TextForm(), pipe[1])

    writer.emit(record("nobody reads this"))
    assert writer.dropped == 1
    os.read(pipe[0], 1 << 20)
    writer.emit(record("but this"))

    assert [line.partition(": ")[2] for line in read_lines(pipe[0])] == ["but this"]
    assert writer.dropped == 1


def test_a_process_ends_though_nobody_reads_its_log(pipe: tuple[int, int]):
    writer = Writer(TextForm(), pipe[1])
    writer.write_behind()
    for number in range(3):
        writer.emit(record("line %d", number))
    thread = writer._thread

    writer.close()

    assert thread is not None and thread.is_alive()  # it still waits, and nobody for it
    os.read(pipe[0], 1 << 20)
    thread.join()
    assert writer.dropped == 0


def test_a_log_whose_reader_is_gone_is_no_failure():
    reading, writing = os.pipe()
    os.close(reading)
    writer = Writer(JsonForm(), writing)

    writer.emit(record("for nobody"))

    os.close(writing)
    assert writer.dropped == 1
