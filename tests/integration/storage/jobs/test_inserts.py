"""Inserts: a job comes back as it went in, once for each idempotency key."""

import uuid

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import new_job
from schemas.accepted import Submission
from schemas.errors import IdempotencyConflict
from schemas.job import LeasedJob
from schemas.states import JobState
from storage.jobs.writes import JobTable
from tests.support.stored_jobs import row


async def test_a_job_comes_back_as_it_went_in(table: JobTable) -> None:
    job = new_job(user="u", max_cost_nano_usd=7)
    await table.insert([job])

    [held] = await table.hold([(job.id, 0)])

    assert held is not None
    assert (held.job.body, held.job.contract, held.job.user) == (job.body, job.contract, "u")
    assert (held.job.state, held.job.fence, held.lease.fence) == (JobState.RUNNING, 1, 1)


async def test_the_same_key_and_request_is_the_same_job(table: JobTable) -> None:
    first, again = new_job(idempotency_key="k1"), new_job(idempotency_key="k1")

    [stored] = await table.insert([first])
    [named] = await table.insert([again])

    assert (stored.job_id, stored.repeated, named.job_id, named.repeated) == (first.id, False, first.id, True)


async def test_the_same_key_with_another_request_conflicts_and_stores_nothing(
    table: JobTable, engine: AsyncEngine
) -> None:
    innocent = new_job()
    await table.insert([new_job(idempotency_key="k2")])

    with pytest.raises(IdempotencyConflict):
        await table.insert([innocent, new_job(idempotency_key="k2", request_digest="other")])

    count = await row(engine, "SELECT count(*) AS n FROM jobs WHERE id = :id", id=innocent.id)
    assert count["n"] == 0


async def test_a_stored_job_is_named_by_its_key_and_by_no_other(table: JobTable) -> None:
    key = f"k{uuid.uuid4().hex}"
    job = new_job(idempotency_key=key)
    assert await table.named_by_key(job) is None

    await table.insert([job])
    named = await table.named_by_key(new_job(idempotency_key=key))

    assert named is not None
    assert (named.job_id, named.repeated) == (job.id, True)
    assert await table.named_by_key(new_job()) is None
    with pytest.raises(IdempotencyConflict):
        await table.named_by_key(new_job(idempotency_key=key, request_digest="other"))


async def test_a_synchronous_job_is_born_running(table: JobTable) -> None:
    job = new_job(idempotency_key="sync")

    held = await table.insert_running(job)
    again = await table.insert_running(new_job(idempotency_key="sync"))

    assert isinstance(held, LeasedJob)
    assert (held.job.contract, held.lease.fence) == (job.contract, 1)
    assert isinstance(again, Submission)
    assert again.job_id == job.id
