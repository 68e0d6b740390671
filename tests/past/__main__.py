"""A long log by concurrent carts, random moments of it, and an independent recount of the whole export.

    python -m tests.past --events 1000000 --pairs 1000 --seed 1

Times that somebody may still be writing into are asked for while the carts go on, and once more at the end: the same
question has to have the same bytes.
"""

import argparse
import http.client
import json
import multiprocessing
import random
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from ledger.store import roles
from ledger.store.embedded.server import EmbeddedPostgres
from tests.conftest import FAST
from tests.past.carts import shop_alone
from tests.past.questions import Get, Told, ask, random_questions, recent, wrong
from tests.past.recount import Question, recount
from tests.service import RunningService, data_folder, running_service

SCHEMA = "stockledger"
SHOPPERS = 3
BATCH = 250
SKUS = [f"SKU-{number}" for number in range(500)]
PAUSE_SECONDS = 0.1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    folder = data_folder()
    try:
        with (
            EmbeddedPostgres.start(folder, settings=FAST) as postgres,
            running_service({"DATABASE_URL": postgres.url, "STOCKLEDGER_SCHEMA": SCHEMA}) as service,
        ):
            return check(service, roles.service_url(postgres.url, SCHEMA), chosen)
    finally:
        shutil.rmtree(folder)


def check(service: RunningService, url: str, chosen: argparse.Namespace) -> int:
    rng = random.Random(chosen.seed)
    get = getter(service)
    started = time.perf_counter()
    early = shop(url, get, rng, chosen)
    head = get("/api/events?limit=1").position
    print(f"{head:,} events in {time.perf_counter() - started:.0f} s by {SHOPPERS} processes of carts", flush=True)

    questions = random_questions(get, SKUS, chosen.pairs, rng)
    started = time.perf_counter()
    told = {question: ask(get, question) for question in questions}
    took = (time.perf_counter() - started) / len(questions)
    print(f"{len(questions):,} questions about the past, {took * 1000:.2f} ms each, one after another", flush=True)

    changed = [question for question, before in early.items() if ask(get, question) != before]
    print(f"{len(early):,} questions about the last second while it went on: {len(changed)} changed their answer")

    started = time.perf_counter()
    then = recount(export(service), [*questions, *early])
    seconds = time.perf_counter() - started
    print(f"exported and recounted in {seconds:.0f} s, {head / seconds:,.0f} events/s", flush=True)

    complaints = [
        why for question, answer in {**told, **early}.items() if (why := wrong(question, answer, then[question]))
    ]
    missing = sum(answer.status == 404 for answer in told.values())
    print(f"{len(told) + len(early):,} answers compared, {missing} of them 404: {len(complaints)} wrong")
    print(*complaints[:10], sep="\n", end="")
    return 1 if complaints or changed else 0


def shop(url: str, get: Get, rng: random.Random, chosen: argparse.Namespace) -> dict[Question, Told]:
    """Let the shoppers loose, and ask about the last second as long as they are at it."""
    spawn = multiprocessing.get_context("spawn")
    shoppers = [
        spawn.Process(target=shop_alone, args=(url, SCHEMA, SKUS, chosen.seed + number, chosen.events, BATCH))
        for number in range(SHOPPERS)
    ]
    for shopper in shoppers:
        shopper.start()
    told = {}
    while any(shopper.is_alive() for shopper in shoppers):
        question = Question(rng.choice(SKUS), moment=recent(rng, datetime.now(UTC)))
        answer = ask(get, question)
        if answer.status != 503:  # told to come back, being busy
            told[question] = answer
        threading.Event().wait(PAUSE_SECONDS)
    assert all(shopper.exitcode == 0 for shopper in shoppers), "a shopper failed"
    return told


def getter(service: RunningService) -> Get:
    """GET over one connection that stays open."""
    parts = urlsplit(service.url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)

    def get(target: str) -> Told:
        connection.request("GET", target)
        answer = connection.getresponse()
        return Told(answer.status, int(answer.headers.get("Ledger-Position", -1)), answer.read())

    return get


def export(service: RunningService) -> Iterator[dict[str, Any]]:
    """The whole log as the feed streams it."""
    parts = urlsplit(service.url)
    assert parts.hostname is not None
    with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)) as connection:
        connection.request("GET", "/api/events", headers={"Accept": "application/x-ndjson"})
        for line in connection.getresponse():
            yield json.loads(line)


if __name__ == "__main__":
    sys.exit(main())
