"""Attempts and records: what a late or doubled one may write, and that its cost is booked once."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import closed, new_job, opened
from schemas.attempt import AttemptState, OpenedAttempt
from schemas.decision import Complete, RetryAt
from schemas.ids import JobId, TenantId
from schemas.job import Lease
from schemas.money import NanoUsd
from storage.jobs.group_jobs import GroupedJobs
from storage.jobs.record import Record
from storage.jobs.writes import OPENED_WITHIN_SECONDS, JobTable
from storage.ledger.ledger import LedgerTable
from tasks.execution.heartbeats import LeaseKeeper
from tests.support.stored_jobs import LATER, REPLY, held_job, job_row, row


async def taken_over(table: JobTable) -> tuple[Lease, OpenedAttempt, Lease]:
    """The lease that a zombie has lost, the attempt that it opened, and the lease of its successor."""
    held = await held_job(table)
    attempt = opened(held.lease)
    await table.open([attempt])
    await table.hand_back([held.lease])
    [successor] = await table.hold([(held.job.id, 1)])
    assert successor is not None
    return held.lease, attempt, successor.lease


async def assert_valid_and_paid_once(engine: AsyncEngine, attempt: OpenedAttempt) -> None:
    kept = await row(engine, "SELECT state, outcome FROM attempts WHERE id = :id", id=attempt.id)
    assert (kept["state"], kept["outcome"]) == ("posted", "valid")
    booked = await row(
        engine, "SELECT count(*) AS n, sum(nano_usd) AS nano FROM ledger WHERE attempt_id = :id", id=attempt.id
    )
    assert (booked["n"], booked["nano"]) == (1, 42)
    assert (await job_row(engine, attempt.job_id))["spent_nano_usd"] == 42


async def test_a_zombie_writes_no_result_but_its_cost_is_booked_once(table: JobTable, engine: AsyncEngine) -> None:
    held = await held_job(table)
    attempt = opened(held.lease)
    await table.open([attempt])
    await table.cancel(held.job.id, TenantId("default"))

    late = Record(lease=held.lease, closed=closed(attempt), decision=Complete(reply=REPLY))
    assert await table.record([late]) == [False]
    assert await table.record([late]) == [False]

    assert (await job_row(engine, held.job.id))["state"] == "cancelled"
    booked = await row(
        engine, "SELECT count(*) AS n, sum(nano_usd) AS nano FROM ledger WHERE attempt_id = :id", id=attempt.id
    )
    assert (booked["n"], booked["nano"]) == (1, 42)


async def test_a_late_answer_found_by_the_successor_is_valid_and_booked_once(
    table: JobTable, engine: AsyncEngine
) -> None:
    lost, attempt, successor = await taken_over(table)

    zombie, found = (
        Record(lease=lease, closed=closed(attempt), decision=Complete(reply=REPLY)) for lease in (lost, successor)
    )
    assert await table.record([zombie]) == [False]
    assert await table.record([found]) == [True]

    await assert_valid_and_paid_once(engine, attempt)


@pytest.mark.parametrize("zombie_first", [True, False])
async def test_a_zombie_in_the_group_of_its_successor_changes_nothing(
    table: JobTable, engine: AsyncEngine, *, zombie_first: bool
) -> None:
    """A paused process comes back, claims the job that it has lost, and records it by both leases at once."""
    lost, attempt, successor = await taken_over(table)
    other = replace(REPLY, body=REPLY.body | {"id": "of-the-zombie"})

    zombie = Record(lease=lost, closed=closed(attempt), decision=Complete(reply=other))
    found = Record(lease=successor, closed=closed(attempt), decision=Complete(reply=REPLY))
    group = [zombie, found] if zombie_first else [found, zombie]

    assert await table.record(group) == [record is found for record in group]
    kept = await row(engine, "SELECT state, outcome FROM attempts WHERE id = :id", id=attempt.id)
    assert (kept["state"], kept["outcome"]) == ("posted", "valid")
    result = await row(engine, "SELECT reply FROM job_results WHERE job_id = :id", id=attempt.job_id)
    assert result["reply"] == REPLY.body
    assert (await job_row(engine, attempt.job_id))["spent_nano_usd"] == 42


async def test_a_charge_looked_up_meanwhile_is_the_successors_valid_attempt(
    table: JobTable, engine: AsyncEngine
) -> None:
    _, attempt, successor = await taken_over(table)

    assert await LedgerTable(engine).post(attempt.id, NanoUsd(42))
    result = Record(lease=successor, closed=closed(attempt), decision=Complete(reply=REPLY))
    assert await table.record([result]) == [True]

    await assert_valid_and_paid_once(engine, attempt)


async def test_an_attempt_of_a_past_epoch_or_fence_is_not_opened(table: JobTable) -> None:
    held = await held_job(table)
    stale = Lease(job_id=held.job.id, fence=0, holder="worker-0", until_at=LATER)

    assert await table.open([opened(held.lease, epoch=0), opened(stale), opened(held.lease)]) == [False, False, True]


async def test_a_late_grant_opens_no_row_but_may_ask_again_if_it_has_one(table: JobTable) -> None:
    held = await held_job(table)
    late = datetime.now(UTC) - timedelta(seconds=OPENED_WITHIN_SECONDS + 5)
    opened_in_time = opened(held.lease)
    await table.open([opened_in_time])

    assert await table.open([replace(opened(held.lease), opened_at=late)]) == [False]
    assert await table.open([replace(opened_in_time, opened_at=late)]) == [True]


async def test_what_is_in_suspense_books_nothing_yet(table: JobTable, engine: AsyncEngine) -> None:
    held = await held_job(table)
    attempt = opened(held.lease)
    await table.open([attempt])
    unknown = closed(attempt, cost=500, state=AttemptState.SUSPENSE)

    await table.record([Record(lease=held.lease, closed=unknown, decision=RetryAt(at=LATER, reason="ambiguous"))])

    booked = await row(engine, "SELECT count(*) AS n FROM ledger WHERE attempt_id = :id", id=attempt.id)
    assert booked["n"] == 0


async def test_a_thousand_jobs_finish_together_each_once(table: JobTable, engine: AsyncEngine) -> None:
    jobs = [new_job(batch_id="batch_thousand", custom_id=str(n)) for n in range(1000)]
    await table.insert(jobs)
    grouped = GroupedJobs(table, LeaseKeeper(table.renew, every_seconds=60))

    async def finish(job_id: JobId) -> bool:
        held = await grouped.hold(job_id, 0)
        assert held is not None
        attempt = opened(held.lease)
        assert await grouped.open(attempt)
        return await grouped.record(held.lease, closed(attempt), Complete(reply=REPLY))

    assert all(await asyncio.gather(*(finish(job.id) for job in jobs)))

    booked = await row(
        engine, "SELECT count(*) AS n, sum(nano_usd) AS nano FROM ledger WHERE batch_id = 'batch_thousand'"
    )
    assert (booked["n"], booked["nano"]) == (1000, 42_000)
