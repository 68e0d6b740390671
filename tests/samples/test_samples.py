"""Ledgers that earlier versions made say the same as they did then: kept samples, each named after its commit.

A new sample is made with tests/samples/make.py; none is ever changed.
"""

import gzip
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from falcon import testing
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from api.app import create_app
from api.cli import main
from api.http.service import Service
from ledger.engine.ledger import Ledger
from ledger.rooms import ROOMS
from ledger.store import roles
from projections.following.projection_runner import Follower
from projections.inline import InlineReadModels
from projections.reader import Reader

SAMPLES = sorted(path.parent for path in Path(__file__).parent.glob("*/questions.json.gz"))


@pytest.fixture(scope="module", params=SAMPLES, ids=lambda sample: sample.name)
def sample(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture(scope="module")
def restored(postgres_url: str, sample: Path) -> Iterator[str]:
    """A database with the sample's dump in it, brought up to date."""
    name = f"sample_{uuid.uuid4().hex[:8]}"
    parts = conninfo_to_dict(postgres_url)
    url = f"postgresql://{parts['user']}@/{name}?host={parts['host']}&port={parts['port']}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            with psycopg.connect(url, autocommit=True) as conn:
                conn.execute(gzip.decompress((sample / "dump.sql.gz").read_bytes()), prepare=False)
            assert main(["migrate", "--database-url", url]) == 0
            yield url
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def client(restored: str) -> Iterator[testing.TestClient]:
    url = roles.service_url(restored, "stockledger")
    ledger = Ledger(url, "stockledger", ROOMS, InlineReadModels())
    reader = Reader(url, "stockledger", max_connections=2)
    yield testing.TestClient(create_app(Service(ledger, reader, 3600)))
    ledger.close()
    reader.close()


def holds(then: Any, now: Any) -> bool:
    """Whether an answer says what it said; members may have come since."""
    if isinstance(then, dict):
        return isinstance(now, dict) and all(name in now and holds(value, now[name]) for name, value in then.items())
    if isinstance(then, list):
        return isinstance(now, list) and len(then) == len(now) and all(map(holds, then, now))
    return bool(then == now)


def test_the_log_of_then_is_verified(restored: str, capsys: pytest.CaptureFixture[str]):
    assert main(["verify", "--database-url", restored]) == 0, capsys.readouterr().out


def test_the_past_is_told_as_it_was(client: testing.TestClient, sample: Path):
    asked = json.loads(gzip.decompress((sample / "questions.json.gz").read_bytes()))
    assert len(asked) >= 300

    parted = [each["path"].partition("?") for each in asked]
    answers = [client.simulate_get(path, query_string=query) for path, _, query in parted]

    wrong = [
        (each["path"], each["answer"], answer.json)
        for each, answer in zip(asked, answers, strict=True)
        if each["status"] != answer.status_code or not holds(each["answer"], answer.json)
    ]
    assert wrong == []


def test_a_key_of_then_gets_the_answer_of_then(client: testing.TestClient, sample: Path):
    for kept in json.loads((sample / "keys.json").read_text()):
        body = None if kept["body"] is None else json.dumps(kept["body"])
        headers = {"Idempotency-Key": kept["key"], "Content-Type": "application/json"}
        again = client.simulate_request(kept["method"], kept["path"], body=body, headers=headers)

        assert again.headers.get("Idempotent-Replayed") == "true", kept
        assert again.status_code == kept["status"]
        assert holds(json.loads(kept["answer"]), again.json), kept


def test_the_log_is_exported_as_it_was(restored: str, sample: Path, tmp_path: Path):
    kept = json.loads((sample / "export" / "manifest.json").read_text())
    last = str(kept["last"])

    assert main(["export", str(tmp_path / "now"), "--database-url", restored, "--to", last]) == 0

    for file in kept["files"]:
        assert (tmp_path / "now" / file["name"]).read_bytes() == (sample / "export" / file["name"]).read_bytes()


def test_the_export_of_then_is_verified_anywhere(sample: Path):
    assert main(["verify", "--from-export", str(sample / "export")]) == 0


def test_read_models_are_made_anew_alike(restored: str, capsys: pytest.CaptureFixture[str]):
    follower = Follower(roles.service_url(restored, "stockledger"), "stockledger")
    while not follower.step():
        pass
    follower.close()

    assert main(["rebuild", "--database-url", restored]) == 0, capsys.readouterr()
    assert main(["verify", "--database-url", restored]) == 0


def test_the_sample_holds_every_kind_of_fact_that_there_was(sample: Path):
    names = {
        json.loads(line)["event"]
        for file in (sample / "export").glob("*.ndjson")
        for line in file.read_text().splitlines()
    }

    assert len(names) == 16
