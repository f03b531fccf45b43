"""State changes: every arrow of a job's life, with what it leaves in the row."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import closed, new_job, opened
from schemas.decision import AskAgain, Complete, DeadLetter, DeadReason, Decision, Expire, Park, RetryAt
from schemas.ids import TenantId
from schemas.states import JobState
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from tests.support.stored_jobs import LATER, REPLY, held_job, job_row, row, woken


@pytest.mark.parametrize(
    ("decision", "state", "tries"),
    [
        (Complete(reply=REPLY, output={"a": 1}), JobState.COMPLETED, 0),
        (AskAgain(body={}, reason="reprompt"), JobState.RUNNING, 0),
        (RetryAt(at=LATER, reason="server"), JobState.WAITING, 1),
        (Park(until_at=LATER, reason="tokens_per_minute"), JobState.WAITING, 0),
        (DeadLetter(reason=DeadReason.REFUSED, message="no"), JobState.DEAD, 0),
        (Expire(), JobState.EXPIRED, 0),
    ],
)
async def test_each_decision_draws_its_arrow(
    table: JobTable, engine: AsyncEngine, decision: Decision, state: JobState, tries: int
) -> None:
    held = await held_job(table)
    attempt = opened(held.lease)
    assert await table.open([attempt]) == [True]

    assert await table.record([Record(lease=held.lease, closed=closed(attempt), decision=decision)]) == [True]

    found = await job_row(engine, held.job.id)
    assert (found["state"], found["tries"], found["spent_nano_usd"]) == (state.value, tries, 42)
    assert (found["rested_at"] is not None) == state.at_rest


async def test_a_job_waiting_for_a_limit_remembers_since_when_until_it_is_called(
    table: JobTable, engine: AsyncEngine
) -> None:
    since = datetime.now(UTC) - timedelta(seconds=70)
    parked = Park(until_at=LATER, reason="tokens_per_minute", waiting_since=since)
    held = await held_job(table)
    assert held.job.waiting_since is None
    await table.record([Record(lease=held.lease, closed=None, decision=parked)])

    again = await woken(table, engine, held.job.id)
    assert again.job.waiting_since == since

    await table.record([Record(lease=again.lease, closed=None, decision=RetryAt(at=LATER, reason="server"))])
    assert (await woken(table, engine, held.job.id)).job.waiting_since is None


async def test_a_completed_job_has_its_result(table: JobTable, engine: AsyncEngine) -> None:
    held = await held_job(table)
    await table.record([Record(lease=held.lease, closed=None, decision=Complete(reply=REPLY, output=[1]))])

    result = await row(engine, "SELECT * FROM job_results WHERE job_id = :id", id=held.job.id)

    assert (result["reply"], result["output"], result["served_by"]) == (REPLY.body, [1], "m-2026")


async def test_only_the_own_tenant_cancels(table: JobTable) -> None:
    job = new_job()
    await table.insert([job])

    assert not await table.cancel(job.id, TenantId("other"))
    assert await table.cancel(job.id, TenantId("default"))
    assert not await table.cancel(job.id, TenantId("default"))
