"""What operators do with dead letters and settings, and what callers are promised, against a real Postgres."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.decision import Complete, DeadLetter, DeadReason, Decision
from schemas.ids import BatchId, JobId, TenantId
from schemas.reply import Reply
from schemas.states import JobState
from storage.config_rows import ConfigTable
from storage.dead_letters import NEWEST, DeadLetterReads
from storage.deliveries import DeliveryTable
from storage.jobs import JobTable, Record
from storage.notify import listen, ring
from storage.reads import Reads
from storage.replay import DeadLetters, ReplayTable
from tests.support.stored_jobs import closed, new_job, opened

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


async def test_dead_letters_are_listed_and_grouped_with_reason_attempts_and_cost(
    engine: AsyncEngine, table: JobTable
) -> None:
    job_id = await ended(table, DEAD, model="listed", custom_id="row-1")
    reads = DeadLetterReads(engine)

    [letter] = await reads.newest(DeadLetters(tenant_id=TENANT, model="listed"))
    [group] = [one for one in await reads.groups() if one.model == "listed"]

    assert (letter.id, letter.reason, letter.message) == (job_id, "invalid_output", "not JSON")
    assert (letter.attempts, letter.spent_nano_usd, letter.custom_id) == (1, 42, "row-1")
    assert (group.reason, group.jobs, group.example) == ("invalid_output", 1, job_id)


async def test_pages_of_dead_letters_hold_each_one_once(engine: AsyncEngine, table: JobTable) -> None:
    dead = [await ended(table, DEAD, batch_id=BatchId("b_pages"), custom_id=str(n)) for n in range(7)]
    reads, which = DeadLetterReads(engine), DeadLetters(batch_id=BatchId("b_pages"))

    seen: list[JobId] = []
    while page := await reads.newest(which, after=seen[-1] if seen else None, most=3):
        seen += [letter.id for letter in page]

    assert seen == list(reversed(dead))


async def test_another_tenants_dead_letters_are_neither_shown_nor_replayed(
    engine: AsyncEngine, table: JobTable
) -> None:
    job_id = await ended(table, DEAD)
    foreign = DeadLetters(tenant_id=TenantId("other"), job_id=job_id)

    assert await DeadLetterReads(engine).newest(foreign) == []
    assert await ReplayTable(engine).replay(foreign, deadline_seconds=60) == []


async def test_a_replay_queues_a_dead_letter_once_with_its_new_body(engine: AsyncEngine, table: JobTable) -> None:
    job_id = await ended(table, DEAD, model="replayed")
    replay, which = ReplayTable(engine), DeadLetters(tenant_id=TENANT, model="replayed")

    answers = await asyncio.gather(
        *(replay.replay(which, deadline_seconds=60, body={"model": "mended"}) for _ in range(3))
    )
    [held] = await table.hold([(job_id, 1)])

    assert [one for answer in answers for one in answer] == [job_id]
    assert held is not None
    assert (held.job.body, held.job.tries, held.job.generation) == ({"model": "mended"}, 0, 1)
    assert await DeadLetterReads(engine).newest(which) == []


async def test_a_replayed_job_that_completes_is_no_longer_a_dead_letter(engine: AsyncEngine, table: JobTable) -> None:
    job_id = await ended(table, DEAD)
    await ReplayTable(engine).replay(DeadLetters(job_id=job_id), deadline_seconds=60)
    [held] = await table.hold([(job_id, 1)])
    assert held is not None

    await table.record([Record(lease=held.lease, closed=None, decision=Complete(reply=REPLY))])

    rested = await Reads(engine).rested(job_id)
    assert rested is not None
    assert (rested.state, rested.dead_reason, rested.message) == (JobState.COMPLETED, None, None)


async def test_a_discarded_dead_letter_is_neither_listed_nor_replayed(engine: AsyncEngine, table: JobTable) -> None:
    job_id = await ended(table, DEAD)
    replay, which = ReplayTable(engine), DeadLetters(job_id=job_id)

    assert await replay.discard(which) == [job_id]

    assert await replay.replay(which, deadline_seconds=60) == []
    assert await DeadLetterReads(engine).newest(which) == []


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


async def test_a_promise_made_after_the_end_and_one_of_a_cancelled_job_are_noticed(
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


async def test_listing_dead_letters_does_not_scan_a_large_backlog(engine: AsyncEngine) -> None:
    only = {"tenant_id": "default", "id": None, "reason": None, "model": None, "batch_id": None}
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO jobs (id, tenant_id, lane, model, endpoint, state, expires_at, max_tries,"
                " max_reprompts, request_digest)"
                " SELECT gen_random_uuid()::text, 'default', 'low', 'm', '/', 'queued',"
                " now() + interval '1 day', 1, 1, '' FROM generate_series(1, 20000) n"
            )
        )
        await connection.execute(text("ANALYZE jobs"))
        plan = await connection.execute(text(f"EXPLAIN {NEWEST}"), only | {"after": None, "most": 50})
        lines = [str(line) for line in plan.scalars()]
        await connection.rollback()

    assert not [line for line in lines if "Seq Scan on jobs" in line]
