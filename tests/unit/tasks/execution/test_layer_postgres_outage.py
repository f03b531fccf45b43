"""While Postgres is away a reply waits in its slot; a cancelled job is written down or handed back, never half."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from schemas.decision import Complete, DeadLetter, DeadReason, Expire
from schemas.errors import PostgresUnavailable
from schemas.ids import AttemptId, JobId
from schemas.job import Lease, LeasedJob, Target
from schemas.plan import Plan
from schemas.reply import Reply, Trouble
from tasks.execution.layers.postgres_outage import PatientJobs
from tasks.execution.pipeline import run_job
from tasks.execution.shielded import run_shielded
from tasks.wiring.database_clock import StoreClock
from tests.support.fakes import FakeGate, FakeJobs, FakeModels, a_job, a_reply, an_opened, deps_of

LEASE = Lease(job_id=JobId("job_1"), fence=1, holder="w", until_at=datetime(2026, 1, 1, tzinfo=UTC))


class Away(FakeJobs):
    """Postgres that is away for the next few writes."""

    missing = 3

    async def record(self, *written: object) -> bool:  # type: ignore[override]  # passed through
        if self.missing:
            self.missing -= 1
            raise PostgresUnavailable
        return await super().record(*written)  # type: ignore[arg-type]  # the same


async def _no_pause(_seconds: float) -> None:
    await asyncio.sleep(0)


def _patient(jobs: FakeJobs, most_seconds: float | None) -> PatientJobs:
    return PatientJobs(jobs, pause=_no_pause, jitter=lambda: 0.5, most_seconds=most_seconds)


async def test_a_reply_waits_for_postgres_and_is_written_once() -> None:
    jobs = Away(a_job())

    assert await _patient(jobs, None).record(LEASE, None, Expire())

    assert len(jobs.records) == 1


async def test_a_caller_on_the_line_does_not_wait_for_ever() -> None:
    jobs = Away(a_job())
    jobs.missing = 1_000

    with pytest.raises(PostgresUnavailable):
        await _patient(jobs, 3.0).record(LEASE, None, Expire())


async def test_a_step_that_was_begun_is_finished_before_its_cancellation() -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def step() -> None:
        begun.set()
        await may_end.wait()
        ended.set()

    task = asyncio.create_task(run_shielded(step()))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


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


class Unheard(FakeJobs):
    """Postgres that holds a job, and is away before it can say so."""

    heard = False

    async def hold(self, job_id: JobId, generation: int, claim: str | None = None) -> LeasedJob | None:
        held, heard, self.heard = await super().hold(job_id, generation, claim), self.heard, True
        if not heard:
            raise PostgresUnavailable
        return held


async def test_a_claim_whose_answer_was_lost_is_the_same_when_it_is_repeated() -> None:
    jobs = Unheard(a_job())
    patient = _patient(jobs, None)

    held = await patient.hold(jobs.job.id, 0)

    assert held is not None
    assert await patient.hold(jobs.job.id, 0) is None


@dataclass
class Slow(FakeJobs):
    """Postgres that holds a job, and says so only when it may."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def hold(self, job_id: JobId, generation: int, claim: str | None = None) -> LeasedJob | None:
        held = await super().hold(job_id, generation, claim)
        self.asked.set()
        await self.may_answer.wait()
        return held


@pytest.mark.parametrize("taken", [False, True])
async def test_a_job_that_is_cancelled_while_it_is_being_held_is_handed_back_if_it_was(*, taken: bool) -> None:
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


def test_a_clock_that_is_an_hour_off_is_corrected_by_the_store() -> None:
    true = datetime(2026, 1, 1, tzinfo=UTC)
    clock = StoreClock(lambda: true + timedelta(hours=1))

    clock.heed(true)

    assert clock.now() == true


async def test_a_call_that_was_paid_for_is_looked_up_before_another_is_made() -> None:
    job = a_job(fence=2, in_suspense=True)
    jobs, gate, models = FakeJobs(job), FakeGate(), FakeModels([])
    lost = an_opened()
    jobs.in_suspense.append(lost)
    models.kept[lost.id] = a_reply("found")

    await run_job(job.id, 0, deps_of(jobs, gate, models))

    [(closed, decision)] = jobs.records
    assert isinstance(decision, Complete)
    assert closed is not None
    assert (closed.id, closed.outcome) == (lost.id, "valid")
    assert models.bodies == []
    assert [settlement.grant for settlement in gate.settled] == [lost.grant]


class Forgetful(FakeModels):
    """Has a bug in what it asks of accounts."""

    async def look_up(self, target: Target, attempt_id: AttemptId) -> Reply | None:
        raise ZeroDivisionError


async def test_a_bug_in_a_look_up_ends_its_job_and_pays_for_no_other_call() -> None:
    job = a_job(fence=2, in_suspense=True)
    jobs, models = FakeJobs(job, in_suspense=[an_opened()]), Forgetful([a_reply()])

    await run_job(job.id, 0, deps_of(jobs, FakeGate(), models))

    [(closed, decision)] = jobs.records
    assert isinstance(decision, DeadLetter)
    assert (closed, decision.reason, models.bodies) == (None, DeadReason.INTERNAL_ERROR, [])


async def test_where_nothing_is_kept_the_call_is_made_again() -> None:
    job = a_job(fence=2, in_suspense=True)
    jobs, models = FakeJobs(job, in_suspense=[an_opened()]), FakeModels([a_reply()])

    await run_job(job.id, 0, deps_of(jobs, FakeGate(), models))

    assert len(models.bodies) == 1
