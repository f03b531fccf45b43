"""What doors show is what was written, to its own tenant only."""

from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import closed, new_job, opened
from schemas.decision import Complete, DeadLetter, DeadReason
from schemas.ids import TenantId
from schemas.lanes import Lane
from schemas.reply import Reply
from schemas.states import JobState
from storage.jobs.reads import JobFilter, Reads
from storage.jobs.record import Record
from storage.jobs.writes import JobTable

TENANT = TenantId("default")
REPLY = Reply(body={"id": "c", "model": "m"}, text="", finish_reason="stop", refusal=None, usage=None, model="m")


async def test_a_dead_letter_tells_its_whole_story(engine: AsyncEngine) -> None:
    table, reads, job = JobTable(engine, holder="w", lease_seconds=30), Reads(engine), new_job(lane=Lane.HIGH)
    await table.insert([job])
    [held] = await table.hold([(job.id, 0)])
    assert held is not None
    attempt = opened(held.lease)
    await table.open([attempt])
    end = DeadLetter(reason=DeadReason.INVALID_OUTPUT, message="price: not a number")
    await table.record([Record(lease=held.lease, closed=closed(attempt), decision=end)])

    story = await reads.story(job.id, TENANT)

    assert story is not None
    assert (story.job.state, story.job.dead_reason, story.job.spent_nano_usd) == (JobState.DEAD, "invalid_output", 42)
    assert [(view.id, view.outcome, view.cost_nano_usd) for view in story.attempts] == [(attempt.id, "valid", 42)]
    assert story.body == job.body
    assert await reads.story(job.id, TenantId("other")) is None


async def test_a_rested_job_has_its_reply(engine: AsyncEngine) -> None:
    table, reads, job = JobTable(engine, holder="w", lease_seconds=30), Reads(engine), new_job()
    await table.insert([job])
    assert await reads.rested(job.id) is None
    [held] = await table.hold([(job.id, 0)])
    assert held is not None

    await table.record([Record(lease=held.lease, closed=None, decision=Complete(reply=REPLY, output=None))])

    rested = await reads.rested(job.id)
    assert rested is not None
    assert (rested.state, rested.reply, rested.served_by) == (JobState.COMPLETED, REPLY.body, "m")


async def test_the_attempt_with_the_result_shows_the_reply_that_is_kept_once(engine: AsyncEngine) -> None:
    table, reads, job = JobTable(engine, holder="w", lease_seconds=30), Reads(engine), new_job()
    await table.insert([job])
    [held] = await table.hold([(job.id, 0)])
    assert held is not None
    attempt = opened(held.lease)
    await table.open([attempt])
    kept_once = replace(closed(attempt), reply=None)
    await table.record([Record(lease=held.lease, closed=kept_once, decision=Complete(reply=REPLY))])

    story = await reads.story(job.id, TENANT)

    assert story is not None
    assert [view.reply for view in story.attempts] == [REPLY.body]


async def test_listing_filters_and_goes_on_after_the_cursor(engine: AsyncEngine) -> None:
    reads = Reads(engine)
    jobs = [new_job(batch_id="batch_list", custom_id=str(n)) for n in range(5)]
    for job in jobs:
        await JobTable(engine, holder="w", lease_seconds=30).insert([job])

    first = await reads.jobs(TENANT, JobFilter(batch_id=jobs[0].batch_id, state=JobState.QUEUED, most=3))
    rest = await reads.jobs(TENANT, JobFilter(batch_id=jobs[0].batch_id, after=first[-1].id))

    assert [view.id for view in [*first, *rest]] == [job.id for job in reversed(jobs)]
    assert await reads.jobs(TenantId("other"), JobFilter()) == []


async def test_depth_and_money_are_summed(engine: AsyncEngine) -> None:
    table, reads, job = JobTable(engine, holder="w", lease_seconds=30), Reads(engine), new_job(lane=Lane.LOW)
    before = (await reads.depths()).get((Lane.LOW, JobState.QUEUED), 0)
    await table.insert([job])

    assert (await reads.depths())[Lane.LOW, JobState.QUEUED] == before + 1
