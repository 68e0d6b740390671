"""What we read from wrk's and pgbench's output, and what we hand to wrk."""

from pathlib import Path

import pytest

from bench import rawsql, wrk
from bench.load import LoadError, http_request
from bench.measured import Measured

SAMPLE = (Path(__file__).parent / "wrk_sample.txt").read_text()


def test_the_figures_of_wrk_are_read_and_refusals_taken_off_the_rate() -> None:
    assert wrk.parse(SAMPLE) == Measured(pytest.approx(7982.89 * (16023 - 1602) / 16023), 7.31, 80.72, 1602)


def test_broken_connections_are_errors_too() -> None:
    broken = SAMPLE.replace("  Non-2xx", "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx")

    assert wrk.parse(broken).errors == 4321 + 1602


@pytest.mark.parametrize(("printed", "milliseconds"), [("931.00us", 0.931), ("1.20s", 1200.0), ("2.50m", 150_000.0)])
def test_every_unit_of_wrk_is_understood(printed: str, milliseconds: float) -> None:
    assert wrk.parse(SAMPLE.replace("80.72ms", printed)).p99_ms == pytest.approx(milliseconds)


def test_output_without_figures_is_an_error() -> None:
    with pytest.raises(LoadError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1 Connection refused")


def test_the_script_for_wrk_holds_each_request_as_a_lua_string() -> None:
    source = wrk.script([http_request("POST", "/api/fungible/a/add/1", "h:1"), http_request("GET", '/"\\', "h:1")])

    assert r'"POST /api/fungible/a/add/1 HTTP/1.1\r\nHost: h:1\r\nContent-Length: 0\r\n\r\n",' in source
    assert r'"GET /\"\\ HTTP/1.1\r\nHost: h:1\r\n\r\n"' in source


def test_the_figures_of_pgbench_come_from_its_summary_and_its_logs(tmp_path: Path) -> None:
    (tmp_path / "log.7").write_text("0 1 1000 0 1700000000 1\n0 2 3000 0 1700000000 2\n")
    (tmp_path / "log.7.1").write_text("1 1 2000 0 1700000000 1\n")
    printed = "number of failed transactions: 2 (0.1%)\ntps = 345.6 (without initial connection time)\n"

    measured = rawsql.parse(printed, tmp_path)

    assert (measured.rate, measured.errors) == (345.6, 2)
    assert (measured.p50_ms, measured.p99_ms) == (pytest.approx(2, rel=0.01), pytest.approx(3, rel=0.01))


def test_pgbench_that_got_nothing_done_has_a_rate_of_zero(tmp_path: Path) -> None:
    printed = "number of transactions actually processed: 0\nnumber of failed transactions: 0 (NaN%)\n"

    assert rawsql.parse(printed, tmp_path) == Measured(0.0, 0.0, 0.0, 0)
    with pytest.raises(rawsql.RawSqlError, match="printed no rate"):
        rawsql.parse("number of transactions actually processed: 05", tmp_path)


def test_libpq_programs_are_pointed_at_the_socket_of_the_url() -> None:
    assert rawsql.connection_environ("postgresql://me@/ledger?host=%2Ftmp%2Fa&port=5433") == {
        "PGHOST": "/tmp/a",
        "PGPORT": "5433",
        "PGUSER": "me",
        "PGDATABASE": "ledger",
    }
