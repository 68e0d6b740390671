"""A line of the log says exactly what the log says, and can be read back."""

from datetime import UTC, datetime

import msgspec
import pytest

from ledger.store.entry_lines import StoredEntry, from_line, to_line

ENTRY = StoredEntry(
    position=17,
    recorded_at=datetime(2026, 11, 22, 10, 0, 0, 123456, UTC),
    stream='stock/main/BANK "CHARGES" é',
    version=3,
    name="StockAdded.v1",
    state=b'{"actor":"anonymous","request_id":"r1","quantity":5,"on_hand":5,"reserved":0}',
)


def test_a_line_has_the_members_that_the_contract_names():
    line = msgspec.json.decode(to_line(ENTRY))

    assert line == {
        "position": 17,
        "recorded_at": "2026-11-22T10:00:00.123456Z",
        "stream": 'stock/main/BANK "CHARGES" é',
        "version": 3,
        "event": "StockAdded.v1",
        "data": {"actor": "anonymous", "request_id": "r1", "quantity": 5, "on_hand": 5, "reserved": 0},
    }


@pytest.mark.parametrize("microsecond", [0, 1, 123456, 999999])
def test_a_line_can_be_read_back_byte_for_byte(microsecond: int):
    entry = ENTRY._replace(recorded_at=ENTRY.recorded_at.replace(microsecond=microsecond))

    assert from_line(to_line(entry)) == entry


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"{}",
        to_line(ENTRY)[:-1],
        to_line(ENTRY).replace(b"17", b'"17"'),
        to_line(ENTRY).replace(b'"version"', b'"versions"'),
        to_line(ENTRY).replace(b'456Z"', b'456"'),
        to_line(ENTRY).replace(b"BANK", b"BANK\xff"),
    ],
)
def test_what_is_not_a_line_is_refused(line: bytes):
    with pytest.raises(ValueError):
        from_line(line)
