"""Runs of the one job through the pipeline, over fakes."""

from schemas.decision import DeadLetter, DeadReason, Decision
from schemas.ids import JobId
from schemas.reply import Trouble, TroubleKind
from tasks.execution.pipeline import run_job
from tests.support.fakes import FakeGate, FakeJobs, FakeModels, a_job, deps_of

JOB = JobId("job_1")


async def run(
    models: FakeModels, gate: FakeGate | None = None, jobs: FakeJobs | None = None
) -> tuple[FakeJobs, FakeGate]:
    jobs, gate = jobs or FakeJobs(a_job()), gate or FakeGate()
    await run_job(JOB, 0, deps_of(jobs, gate, models))
    return jobs, gate


def trouble(kind: TroubleKind) -> Trouble:
    return Trouble(kind=kind, message="why")


def dead_of(decision: Decision) -> DeadReason | None:
    return decision.reason if isinstance(decision, DeadLetter) else None
