"""P3: a worker that is killed in the middle of a call costs its jobs seconds, and nothing else."""

from stack.children import wait_until
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack_process import StackProcess

WORKERS = ("interactive", "standard-1", "bulk")
FINISH_SECONDS = 30.0


def test_jobs_of_a_killed_worker_finish_elsewhere_once_each(stack: StackProcess, provider: SimulatorProcess) -> None:
    bodies = [
        {"model": "small", "messages": [{"role": "user", "content": f"[[scenario:hang*1]] {number}"}], "lane": "normal"}
        for number in range(20)
    ]
    ids = [str(stack.api.post("jobs", body=body)["id"]) for body in bodies]
    assert wait_until(lambda: provider.meter()["accepted"] >= len(ids), seconds=FINISH_SECONDS)

    stack.kill("standard-1")

    def states() -> set[str]:
        return {row["state"] for row in stack.rows("SELECT state FROM jobs WHERE id = ANY(%s)", ids)}

    assert wait_until(lambda: states() == {"completed"}, seconds=FINISH_SECONDS)
    attempts = stack.rows(
        "SELECT job_id, array_agg(state ORDER BY opened_at) AS states FROM attempts WHERE job_id = ANY(%s) GROUP BY 1",
        ids,
    )
    assert all(row["states"] == ["suspense", "posted"] for row in attempts)
    assert len(stack.rows("SELECT job_id FROM job_results WHERE job_id = ANY(%s)", ids)) == len(ids)
