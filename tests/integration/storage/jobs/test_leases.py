"""Leases: one holder at a time, until its record or its end."""

import asyncio
from datetime import UTC, datetime, timedelta

from bench.store.sample_jobs import new_job
from schemas.decision import AskAgain, Complete, Expire
from schemas.ids import JobId
from schemas.job import Lease
from storage.jobs.claims import Claim
from storage.jobs.group_jobs import GroupedJobs
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from tasks.execution.heartbeats import LeaseKeeper
from tests.support.stored_jobs import LATER, REPLY, held_job


async def test_a_job_is_held_once(table: JobTable) -> None:
    job = new_job()
    await table.insert([job])

    answers = await asyncio.gather(*(table.hold([(job.id, 0)]) for _ in range(8)))

    assert sum(held is not None for [held] in answers) == 1


async def test_a_stale_generation_and_an_unknown_id_are_not_held(table: JobTable) -> None:
    job = new_job()
    await table.insert([job])

    assert await table.hold([(job.id, 1), (JobId("job_nobody"), 0)]) == [None, None]


async def test_a_job_past_its_deadline_is_not_held(table: JobTable) -> None:
    job = new_job(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    await table.insert([job])

    assert await table.hold([(job.id, 0)]) == [None]


async def test_a_claim_is_repeated_under_its_name_alone_and_while_it_holds(table: JobTable) -> None:
    job = new_job()
    await table.insert([job])
    first, second = Claim(job.id, 0, "first"), Claim(job.id, 0, "second")
    [held] = await table.hold([first])
    assert held is not None

    assert await table.hold([second]) == [None]
    [again] = await table.hold([first])
    assert again is not None
    assert again.lease.fence == held.lease.fence
    assert await table.record([Record(lease=again.lease, closed=None, decision=Expire())]) == [True]
    assert await table.hold([first]) == [None]


async def test_only_the_holder_renews(table: JobTable) -> None:
    held = await held_job(table)
    stale = Lease(job_id=held.job.id, fence=0, holder="worker-0", until_at=LATER)

    assert await table.renew([held.lease]) == {held.job.id}
    assert await table.renew([stale]) == set()


async def test_a_lease_is_over_with_the_record_that_ends_it(table: JobTable) -> None:
    lease_keeper, job = LeaseKeeper(table.renew, every_seconds=60), new_job()
    grouped = GroupedJobs(table, lease_keeper)
    await table.insert([job])
    held = await grouped.hold(job.id, 0)
    assert held is not None

    async with grouped.renewing(held.lease):
        assert await grouped.record(held.lease, None, AskAgain(body={}, reason="again"))
        assert lease_keeper.leases == 1
        assert await grouped.record(held.lease, None, Complete(reply=REPLY))
        assert lease_keeper.leases == 0
