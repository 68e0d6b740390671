"""The service does what its document says, whatever a machine can think of asking; `make fuzz` asks more."""

from pathlib import Path

import pytest

from tests.fuzz.fuzzing import fuzz, stocked_service, stockledger


def test_no_check_of_schemathesis_fails_and_the_ledger_verifies_afterwards(
    postgres_url: str, schema: str, tmp_path: Path
):
    settings = {"DATABASE_URL": postgres_url, "STOCKLEDGER_SCHEMA": schema}
    with stocked_service(settings) as (service, key):
        found = fuzz(service, key, tmp_path, "--max-time", "20", "--phases", "examples,fuzzing,stateful", "-n", "3")

    if found.failures:
        pytest.fail(found.failures)
    assert found.requests > 100
    verified = stockledger(settings, "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
