"""A job that is cancelled is written down or handed back, never half."""

import asyncio
from dataclasses import dataclass, field

import pytest

from schemas.ids import JobId
from schemas.job import LeasedJob
from schemas.plan import Plan
from schemas.reply import Reply, Trouble
from tasks.execution.pipeline import run_job
from tests.support.fakes import FakeGate, FakeJobs, FakeModels, a_job, a_reply, deps_of


class Silent(FakeModels):
    """A model that does not answer."""

    def __init__(self) -> None:
        super().__init__([])
        self.asked = asyncio.Event()

    async def call(self, plan: Plan, attempt_id: str, **_: object) -> Reply | Trouble:  # type: ignore[override]  # said nothing
        self.asked.set()
        await asyncio.Event().wait()
        return a_reply()


async def test_a_job_that_is_cancelled_in_its_call_is_handed_back() -> None:
    jobs, models = FakeJobs(a_job()), Silent()
    deps = deps_of(jobs, FakeGate(), models)
    task = asyncio.create_task(run_job(jobs.job.id, 0, deps))
    await models.asked.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert [lease.job_id for lease in jobs.returned] == [jobs.job.id]
    assert jobs.records == []


@dataclass
class Slow(FakeJobs):
    """Postgres that holds a job, and says so only when it may."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def hold(self, job_id: JobId, generation: int) -> LeasedJob | None:
        held = await super().hold(job_id, generation)
        self.asked.set()
        await self.may_answer.wait()
        return held


@pytest.mark.parametrize("taken", [False, True])
async def test_a_job_cancelled_while_being_held_is_handed_back_if_it_was_held(*, taken: bool) -> None:
    jobs, models = Slow(a_job(), taken=taken), FakeModels([])
    task = asyncio.create_task(run_job(jobs.job.id, 0, deps_of(jobs, FakeGate(), models)))
    await jobs.asked.wait()

    task.cancel()
    await asyncio.sleep(0)
    jobs.may_answer.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert [lease.job_id for lease in jobs.returned] == ([] if taken else [jobs.job.id])
    assert models.bodies == []
