"""Our own checks beside schemathesis': what every answer has, and why a valid request may still be refused with 422."""

import re

import schemathesis
from schemathesis import Case, CheckContext, Response

# Members that a schema calls good and the ledger bad, by what is said of them: because of other members, or of the log.
BEYOND_SCHEMAS = (
    ("cursor", "is not one that a list answered"),
    ("at_position", "is in the future"),
    ("at_position", "cannot be combined with as_of"),
    ("as_of", "is in the future"),
    ("from", "must not be after to"),
    # No pattern knows the calendar.
    ("as_of", "must be a time"),
    ("from", "must be a time"),
    ("to", "must be a time"),
    ("from", "must be less than"),
    # Its coverage phase knows no headers of other than letters and digits, so it makes what the pattern forbids.
    ("If-Match", "must be *"),
    ("If-Match", "cannot be combined with If-None-Match"),
)


@schemathesis.check
def valid_data_is_refused_only_for_what_no_schema_says(ctx: CheckContext, response: Response, case: Case) -> None:
    if response.status_code != 422 or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    problem = response.json()
    if problem["type"] == "/problems/idempotency-key-reused":
        return
    # To a JSON Schema 1.0 is an integer.
    floats = "is invalid: Expected `int`, got `float`"
    unsaid = {
        member: must
        for member, must in problem.get("errors", {}).items()
        if floats not in must and not any(member == name and must.startswith(start) for name, start in BEYOND_SCHEMAS)
    }
    assert not unsaid, f"the document allows what is refused: {unsaid}"


@schemathesis.check
def every_error_is_a_problem(ctx: CheckContext, response: Response, case: Case) -> None:
    if response.status_code < 400:
        return
    assert response.headers["content-type"] == ["application/problem+json"]
    problem = response.json()
    assert problem["status"] == response.status_code
    assert re.fullmatch("/problems/[a-z-]+", problem["type"])


@schemathesis.check
def every_answer_has_a_request_id(ctx: CheckContext, response: Response, case: Case) -> None:
    assert len(response.headers["x-request-id"]) == 1
