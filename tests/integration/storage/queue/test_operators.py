"""What operators do with dead letters and settings, and what callers are promised, against a real Postgres."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import closed, new_job, opened
from schemas.decision import Complete, DeadLetter, DeadReason, Decision
from schemas.ids import JobId, TenantId
from schemas.reply import Reply
from storage.database.notify import listen, ring
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.tenancy.celery_results import DeliveryTable
from storage.tenancy.configuration import ConfigTable

REPLY = Reply(body={"id": "c", "model": "m-2026"}, text="", finish_reason="stop", refusal=None, usage=None, model="m")
TENANT = TenantId("default")
DEAD = DeadLetter(reason=DeadReason.INVALID_OUTPUT, message="not JSON")


@pytest.fixture
def table(engine: AsyncEngine) -> JobTable:
    return JobTable(engine, holder="w", lease_seconds=30)


async def ended(table: JobTable, decision: Decision, **changes: object) -> JobId:
    job = new_job(**changes)
    await table.insert([job])
    [held] = await table.hold([(job.id, 0)])
    assert held is not None
    attempt = opened(held.lease)
    await table.open([attempt])
    await table.record([Record(lease=held.lease, closed=closed(attempt), decision=decision)])
    return job.id


async def test_a_promised_result_is_ready_when_its_job_rests_and_delivered_once(
    engine: AsyncEngine, table: JobTable
) -> None:
    deliveries = DeliveryTable(engine)
    job = new_job()
    await table.insert([job])
    await deliveries.expect("task-1", job.id, "reply-queue")
    [held] = await table.hold([(job.id, 0)])
    assert held is not None
    early = await deliveries.ready()

    await table.record([Record(lease=held.lease, closed=None, decision=Complete(reply=REPLY))])
    [ready] = await deliveries.ready()
    await deliveries.delivered([ready.task_id])

    assert early == []
    assert (ready.task_id, ready.job_id, ready.reply_to) == ("task-1", job.id, "reply-queue")
    assert await deliveries.ready() == []


async def test_a_promise_names_its_job_until_it_is_delivered(engine: AsyncEngine, table: JobTable) -> None:
    deliveries = DeliveryTable(engine)
    job = await ended(table, DEAD)
    await deliveries.expect("task-revoked", job)

    assert await deliveries.promised(["task-revoked", "task-unknown"]) == [job]
    await deliveries.notice_rested()
    await deliveries.delivered(["task-revoked"])
    assert await deliveries.promised(["task-revoked"]) == []


async def test_a_promise_after_the_end_and_one_of_a_cancelled_job_are_noticed(
    engine: AsyncEngine, table: JobTable
) -> None:
    deliveries = DeliveryTable(engine)
    await deliveries.expect("task-late", await ended(table, DEAD))
    job = new_job()
    await table.insert([job])
    await deliveries.expect("task-cancelled", job.id)
    await table.cancel(job.id, None)

    assert await deliveries.notice_rested() == 2

    assert {"task-late", "task-cancelled"} <= {one.task_id for one in await deliveries.ready()}


async def test_an_operators_change_wins_until_the_file_changes(engine: AsyncEngine) -> None:
    config = ConfigTable(engine)
    await config.apply_file({"limits.m": {"requests_per_minute": 500}})
    await config.set("limits.m", {"requests_per_minute": 900})

    unchanged = await config.apply_file({"limits.m": {"requests_per_minute": 500}})
    kept = await config.get("limits.m")
    changed = await config.apply_file({"limits.m": {"requests_per_minute": 600}})
    taken = await config.get("limits.m")

    assert (unchanged, changed) == ([], ["limits.m"])
    assert kept is not None
    assert taken is not None
    assert (kept.value, kept.source, kept.version) == ({"requests_per_minute": 900}, "operator", 2)
    assert (taken.value, taken.source, taken.version) == ({"requests_per_minute": 600}, "file", 3)


async def test_a_commit_that_rings_wakes_the_listener(engine: AsyncEngine, fresh_database_url: str) -> None:
    rung = asyncio.Event()
    listening = asyncio.create_task(listen(fresh_database_url, rung.set))
    await asyncio.wait_for(rung.wait(), 10)
    rung.clear()

    async with engine.begin() as connection:
        await ring(connection)

    await asyncio.wait_for(rung.wait(), 10)
    listening.cancel()
    await asyncio.wait([listening])
