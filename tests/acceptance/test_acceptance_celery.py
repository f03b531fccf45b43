"""P6: another service submits by task name. It needs celery and the broker's address, and nothing of ours."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.simulator_process import SimulatorProcess
from tests.support.stack_process import StackProcess

CALLER = """
import json, sys
from celery import Celery

broker, lane, name, body = sys.argv[1:]
app = Celery(broker=broker, backend=broker, set_as_current=False)
app.conf.update(task_serializer="json", accept_content=["json"], result_serializer="json")
try:
    print(json.dumps(app.send_task(name, args=[json.loads(body)], queue=f"completions.{lane}").get(timeout=30)))
except Exception as error:
    print(json.dumps({"raised": type(error).__name__, "words": str(error)}))
assert not any(module.split(".")[0] in {"schemas", "tasks", "workers"} for module in sys.modules)
"""
SCHEMA = {"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]}
BODY = {
    "model": "small",
    "messages": [{"role": "user", "content": "How large is it?"}],
    "output_contract": {"schema": SCHEMA},
}


def call(stack: StackProcess, folder: Path, name: str, body: object, lane: str = "high") -> Any:  # noqa: ANN401 - parsed JSON
    script = folder / "caller.py"
    script.write_text(CALLER)
    done = subprocess.run(
        [sys.executable, str(script), stack.connection.redis_url, lane, name, json.dumps(body)],
        cwd=folder,  # outside the checkout, where only what is installed can be imported
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_caller_gets_the_validated_result(stack: StackProcess, provider: SimulatorProcess, tmp_path: Path) -> None:
    provider.set_scenarios({"commentary": 0.5})

    result = call(stack, tmp_path, "completions.complete", BODY)

    assert result["state"] == "completed"
    [row] = stack.rows("SELECT output FROM job_results WHERE job_id = %s", result["id"])
    assert isinstance(row["output"]["size"], int)
    assert result["reply"]["object"] == "chat.completion"


def test_a_submitted_job_is_known_by_its_id_at_once(stack: StackProcess, tmp_path: Path) -> None:
    job_id = call(stack, tmp_path, "completions.submit", BODY, lane="normal")

    [row] = stack.rows("SELECT lane, tenant_id FROM jobs WHERE id = %s", job_id)
    assert (row["lane"], row["tenant_id"]) == ("normal", "default")


def test_a_malformed_body_is_told_to_its_caller(stack: StackProcess, tmp_path: Path) -> None:
    answer = call(stack, tmp_path, "completions.complete", {"model": "small"})

    assert answer["raised"] == "InvalidRequest"
    assert "messages" in answer["words"]


def test_a_job_that_dies_raises_at_its_caller(stack: StackProcess, provider: SimulatorProcess, tmp_path: Path) -> None:
    provider.set_scenarios({"refusal": 1.0})

    answer = call(stack, tmp_path, "completions.complete", BODY)

    assert answer["raised"] == "JobNotCompleted"
    assert "refused" in answer["words"]
