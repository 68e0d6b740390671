"""Questions about the past put to the service, and whether its answers are those of the recount."""

import json
import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from tests.past.recount import Question, Then


class Told(NamedTuple):
    """What GET answered: a body byte for byte, and the position that it reflects."""

    status: int
    position: int
    body: bytes


# Given a path with its query.
Get = Callable[[str], Told]


def random_questions(get: Get, skus: Sequence[str], count: int, rng: random.Random) -> list[Question]:
    """As many by position as by time; of the times half are just those of an entry."""
    head = get("/api/events?limit=1").position

    def recorded_at(position: int) -> str:
        (entry,) = json.loads(get(f"/api/events?limit=1&after={position - 1}").body)["items"]
        return str(entry["recorded_at"])

    begin, end = (datetime.fromisoformat(recorded_at(position)) for position in (1, head))
    questions = [Question(rng.choice(skus), position=rng.randint(1, head)) for _ in range(count // 2)]
    for number in range(count - count // 2):
        moment = recorded_at(rng.randint(1, head)) if number % 2 else time_text(begin + (end - begin) * rng.random())
        questions.append(Question(rng.choice(skus), moment=moment))
    return questions


def time_text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def recent(rng: random.Random, now: datetime) -> str:
    """A time of the last second, into which somebody may still be writing."""
    return time_text(now - timedelta(seconds=rng.random()))


def ask(get: Get, question: Question) -> Told:
    moment = f"at_position={question.position}" if question.moment is None else f"as_of={question.moment}"
    return get(f"/api/fungible/{question.sku}?{moment}")


def wrong(question: Question, told: Told, then: Then) -> str | None:
    """What is wrong with an answer, None if nothing is."""
    if told.position != then.position:
        return f"{question} is about position {then.position}, the service says {told.position}"
    if then.body is None:
        return None if told.status == 404 else f"{question}: there was nothing, the service says {told}"
    if told.status != 200 or json.loads(told.body) != then.body:
        return f"{question} is {then.body}, the service says {told}"
    return None
