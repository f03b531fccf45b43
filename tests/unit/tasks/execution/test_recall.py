"""Replies of earlier leases that nobody recorded are looked up before another call is made."""

from schemas.decision import Complete, DeadLetter, DeadReason
from schemas.ids import AttemptId
from schemas.job import Target
from schemas.reply import Reply
from tasks.execution.pipeline import run_job
from tests.support.fakes import FakeGate, FakeJobs, FakeModels, a_job, a_reply, an_opened, deps_of
from tests.support.pipeline_runs import dead_of, run


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


async def test_as_many_lost_calls_as_a_job_has_tries_are_its_last() -> None:
    lost = (await run(FakeModels([a_reply()])))[0].opens * 2
    models = FakeModels([a_reply()])
    jobs = FakeJobs(a_job(in_suspense=True, max_tries=2), in_suspense=lost)

    await run(models, jobs=jobs)

    assert [dead_of(decision) for _, decision in jobs.records] == [DeadReason.INTERNAL_ERROR]
    assert models.bodies == []
