"""Every call there is, in the order of the document; and those of the log, reports and operations."""

from api import rooms
from api.openapi import examples, shapes
from api.openapi.model import JSON, Answer, Operation, Operations, Parameter
from api.openapi.page import FILES
from api.openapi.parameters import AFTER, DAYS, DIGEST, FILE, FORMAT, LIMIT, OF_SKU, PAST, SKU_PREFIX, WAIT, WRITE, by
from api.openapi.reporting import report_shape
from api.resources.batch import MAX_COMMANDS, BatchBody
from api.resources.events import NDJSON
from api.resources.health import Readiness
from api.resources.reports import GROUPINGS, REPORTS
from ledger.errors import AheadOfLogError, OtherHistoryError
from ledger.room import joined

_SUMMARIES = {
    "stock": "What there is now, by SKU",
    "movements": "Units that moved",
    "reservations": "What became of the reservations made on each day",
    "shortages": "What was asked for and refused",
    "valuation": "What the stock was worth at the end of each day",
}
_PARAMETERS = {
    "sku_prefix": SKU_PREFIX,
    "from": DAYS[0],
    "to": DAYS[1],
    "sku": OF_SKU,
    **{parameter.name: parameter for parameter in PAST},
}


def _report(name: str, names: tuple[str, ...]) -> Operation:
    parameters: list[Parameter] = [_PARAMETERS[n] if n != "by" else by(GROUPINGS[name]) for n in names]
    return Operation(
        id=f"report{name.capitalize()}",
        tag="Reports",
        summary=_SUMMARIES[name],
        parameters=(FORMAT, *parameters),
        answers={
            200: Answer(
                text="The report, from one snapshot.",
                content={JSON: report_shape(name), "text/csv": {"type": "string"}},
                headers=("Ledger-Position", "Ledger-Lag", "Ledger-Time", "Cache-Control"),
            )
        },
        problems=("not-acceptable", *(["not-found"] if "as_of" in names else [])),
    )


LOG: Operations = {
    ("GET", "/api/events"): Operation(
        id="events",
        tag="The log",
        summary="The whole log in order, for whoever follows it",
        text="NDJSON is one entry a line; without `limit` it goes on to the end of the log as it is now.",
        parameters=(AFTER, DIGEST, LIMIT, WAIT),
        answers={
            200: Answer(
                text="Entries after `after`.",
                content={JSON: shapes.LogEntries, NDJSON: {"type": "string"}},
                headers=("Ledger-Position", "Next-Digest"),
            )
        },
        refusals=(AheadOfLogError, OtherHistoryError),
        problems=("not-acceptable",),
    ),
}
REPORTING: Operations = {("GET", f"/api/reports/{name}"): _report(name, names) for name, (_, names) in REPORTS.items()}
HEALTH: Operations = {
    ("GET", "/health/live"): Operation(
        id="live",
        tag="Health",
        summary="The process can answer",
        answers={200: Answer(text="It can.", content={JSON: shapes.Live})},
    ),
    ("GET", "/health/ready"): Operation(
        id="ready",
        tag="Health",
        summary="The ledger can be read and written, and its processes keep up",
        text="Who may `read` sees details.",
        answers={200: Answer(text="All is as it should be.", content={JSON: Readiness})},
        problems=("not-ready",),
    ),
    ("GET", "/metrics"): Operation(
        id="metrics",
        tag="Health",
        summary="The numbers of all processes, for Prometheus",
        answers={
            200: Answer(
                text="In the form that `Accept` asks for.",
                content={"text/plain": {"type": "string"}, "application/openmetrics-text": {"type": "string"}},
            )
        },
    ),
}
DOCUMENTS: Operations = {
    ("GET", "/openapi.json"): Operation(
        id="openapi",
        tag="Documents",
        summary="This document",
        answers={
            200: Answer(text="OpenAPI 3.1.", content={JSON: {"type": "object"}}, headers=("ETag",)),
            304: Answer(text="It is still the same.", headers=("ETag",)),
        },
    ),
    ("GET", "/docs"): Operation(
        id="docs",
        tag="Documents",
        summary="This document as a page",
        answers={200: Answer(text="A page.", content={"text/html": {"type": "string"}})},
    ),
    ("GET", "/docs/{file}"): Operation(
        id="docsFile",
        tag="Documents",
        summary="What the page needs",
        parameters=(FILE,),
        answers={
            200: Answer(
                text="The file.",
                content={media_type.partition(";")[0]: {"type": "string"} for media_type in FILES.values()},
                headers=("Cache-Control",),
            )
        },
        problems=("not-found",),
    ),
}

BATCHES: Operations = {
    ("POST", "/api/batch"): Operation(
        id="batch",
        tag="Batches",
        summary=f"Up to {MAX_COMMANDS} commands, each for itself or all or nothing",
        text="In mode `each` a bad or refused command is told in its place, and the answer is 200 as a whole.",
        parameters=WRITE,
        body=BatchBody,
        body_example=examples.BATCH,
        needs_body=True,
        answers={
            200: Answer(
                text="A result for each command.",
                content={JSON: shapes.BatchAnswer},
                headers=("Ledger-Position", "Idempotent-Replayed"),
            )
        },
        problems=("batch-refused",),
    ),
}

OPERATIONS: Operations = joined([rooms.OPERATIONS, BATCHES, LOG, REPORTING, HEALTH, DOCUMENTS])
