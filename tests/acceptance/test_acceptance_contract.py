"""P5 and P2: every completed job satisfies its schema, every other is explained, and the ledger equals the bill."""

import json
from pathlib import Path

from jsonschema import Draft202012Validator

from stack.children import wait_until
from tests.acceptance.test_acceptance_sdk import SCHEMA, batch_line
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack_process import StackProcess

JOBS = 2_000
BATCH_SECONDS = 120.0
MALFORMED = {"fenced": 0.04, "commentary": 0.04, "wrong_type": 0.05, "missing_field": 0.04, "prose": 0.03}


def test_two_thousand_jobs_with_a_fifth_of_the_answers_malformed(
    stack: StackProcess, provider: SimulatorProcess, tmp_path: Path
) -> None:
    provider.set_scenarios(MALFORMED)
    booked_before = stack.ledger_nano_usd()
    path = tmp_path / "batch.jsonl"
    path.write_text("\n".join(batch_line(f"job-{number}", f"turbine {number}") for number in range(JOBS)))

    with stack.openai() as client:
        uploaded = client.files.create(file=path, purpose="batch")
        batch = client.batches.create(
            input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        assert wait_until(lambda: client.batches.retrieve(batch.id).status == "completed", seconds=BATCH_SECONDS)
        batch = client.batches.retrieve(batch.id)
        results = [json.loads(line) for line in client.files.content(batch.output_file_id or "").text.splitlines()]
        failures = (
            [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
            if batch.error_file_id
            else []
        )

    validator = Draft202012Validator(SCHEMA)
    outputs = stack.rows(
        "SELECT r.output FROM job_results r JOIN jobs j ON j.id = r.job_id WHERE j.batch_id = %s", batch.id
    )
    assert len(results) + len(failures) == JOBS
    assert len({line["custom_id"] for line in results + failures}) == JOBS
    assert len(outputs) == len(results) > JOBS * 0.95
    assert all(validator.is_valid(row["output"]) for row in outputs)
    dead = list(stack.api.rows("dead-letters", batch_id=batch.id))
    assert len(dead) == len(failures)
    assert all(letter["reason"] and letter["attempts"] and float(letter["cost_usd"]) > 0 for letter in dead)
    meter = provider.meter()
    assert stack.ledger_nano_usd() - booked_before == meter["bill_nano_usd"]
    assert meter["billed_twice"]["client_request_ids"] == 0
