"""Every arrow of a job's life against a real Postgres."""

import asyncio
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import closed, new_job, opened
from schemas.accepted import Submission
from schemas.attempt import AttemptState
from schemas.decision import AskAgain, Complete, DeadLetter, DeadReason, Decision, Expire, Park, RetryAt
from schemas.errors import IdempotencyConflict
from schemas.ids import JobId, TenantId
from schemas.job import Lease, LeasedJob
from schemas.money import NanoUsd
from schemas.reply import Reply
from schemas.states import JobState
from storage.jobs.claims import Claim
from storage.jobs.group_jobs import GroupedJobs
from storage.jobs.record import Record
from storage.jobs.writes import OPENED_WITHIN_SECONDS, JobTable
from storage.ledger.ledger import LedgerTable
from tasks.execution.heartbeats import LeaseKeeper

REPLY = Reply(
    body={"id": "chatcmpl-1", "model": "m-2026"},
    text="{}",
    finish_reason="stop",
    refusal=None,
    usage=None,
    model="m-2026",
)
LATER = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
def table(engine: AsyncEngine) -> JobTable:
    return JobTable(engine, holder="worker-1", lease_seconds=30)


async def row(engine: AsyncEngine, query: str, **parameters: object) -> dict[str, Any]:
    async with engine.connect() as connection:
        found = (await connection.execute(text(query), parameters)).mappings().all()
    assert len(found) == 1
    return dict(found[0])


async def job_row(engine: AsyncEngine, job_id: JobId) -> dict[str, Any]:
    return await row(engine, "SELECT * FROM jobs WHERE id = :id", id=job_id)


async def held_job(table: JobTable) -> LeasedJob:
    job = new_job()
    await table.insert([job])
    [held] = await table.hold([(job.id, 0)])
    assert held is not None
    return held


async def woken(table: JobTable, engine: AsyncEngine, job_id: JobId) -> LeasedJob:
    async with engine.begin() as connection:
        wake = "UPDATE jobs SET state = 'queued', generation = generation + 1 WHERE id = :id RETURNING generation"
        generation = (await connection.execute(text(wake), {"id": job_id})).scalar_one()
    [held] = await table.hold([(job_id, generation)])
    assert held is not None
    return held


async def test_a_job_comes_back_as_it_went_in(table: JobTable) -> None:
    job = new_job(user="u", max_cost_nano_usd=7)
    await table.insert([job])

    [held] = await table.hold([(job.id, 0)])

    assert held is not None
    assert (held.job.body, held.job.contract, held.job.user) == (job.body, job.contract, "u")
    assert (held.job.state, held.job.fence, held.lease.fence) == (JobState.RUNNING, 1, 1)


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
    held = await held_job(table)
    attempt = opened(held.lease)
    await table.open([attempt])
    await table.hand_back([held.lease])
    [successor] = await table.hold([(held.job.id, 1)])
    assert successor is not None

    zombie, found = (
        Record(lease=lease, closed=closed(attempt), decision=Complete(reply=REPLY))
        for lease in (held.lease, successor.lease)
    )
    assert await table.record([zombie]) == [False]
    assert await table.record([found]) == [True]

    kept = await row(engine, "SELECT state, outcome FROM attempts WHERE id = :id", id=attempt.id)
    assert (kept["state"], kept["outcome"]) == ("posted", "valid")
    booked = await row(
        engine, "SELECT count(*) AS n, sum(nano_usd) AS nano FROM ledger WHERE attempt_id = :id", id=attempt.id
    )
    assert (booked["n"], booked["nano"]) == (1, 42)
    assert (await job_row(engine, held.job.id))["spent_nano_usd"] == 42


@pytest.mark.parametrize("zombie_first", [True, False])
async def test_a_zombie_in_the_group_of_its_successor_changes_nothing(
    table: JobTable, engine: AsyncEngine, *, zombie_first: bool
) -> None:
    """A paused process comes back, claims the job that it has lost, and records it by both leases at once."""
    held = await held_job(table)
    attempt = opened(held.lease)
    await table.open([attempt])
    await table.hand_back([held.lease])
    [successor] = await table.hold([(held.job.id, 1)])
    assert successor is not None
    other = replace(REPLY, body=REPLY.body | {"id": "of-the-zombie"})

    zombie = Record(lease=held.lease, closed=closed(attempt), decision=Complete(reply=other))
    found = Record(lease=successor.lease, closed=closed(attempt), decision=Complete(reply=REPLY))
    group = [zombie, found] if zombie_first else [found, zombie]

    assert await table.record(group) == [record is found for record in group]
    kept = await row(engine, "SELECT state, outcome FROM attempts WHERE id = :id", id=attempt.id)
    assert (kept["state"], kept["outcome"]) == ("posted", "valid")
    result = await row(engine, "SELECT reply FROM job_results WHERE job_id = :id", id=held.job.id)
    assert result["reply"] == REPLY.body
    assert (await job_row(engine, held.job.id))["spent_nano_usd"] == 42


async def test_a_charge_looked_up_meanwhile_is_the_successors_valid_attempt(
    table: JobTable, engine: AsyncEngine
) -> None:
    held = await held_job(table)
    attempt = opened(held.lease)
    await table.open([attempt])
    await table.hand_back([held.lease])
    [successor] = await table.hold([(held.job.id, 1)])
    assert successor is not None

    assert await LedgerTable(engine).post(attempt.id, NanoUsd(42))
    result = Record(lease=successor.lease, closed=closed(attempt), decision=Complete(reply=REPLY))
    assert await table.record([result]) == [True]

    kept = await row(engine, "SELECT state, outcome FROM attempts WHERE id = :id", id=attempt.id)
    assert (kept["state"], kept["outcome"]) == ("posted", "valid")
    booked = await row(
        engine, "SELECT count(*) AS n, sum(nano_usd) AS nano FROM ledger WHERE attempt_id = :id", id=attempt.id
    )
    assert (booked["n"], booked["nano"]) == (1, 42)
    assert (await job_row(engine, held.job.id))["spent_nano_usd"] == 42


async def test_an_attempt_of_a_past_epoch_or_fence_is_not_opened(table: JobTable) -> None:
    held = await held_job(table)
    stale = Lease(job_id=held.job.id, fence=0, holder="worker-0", until_at=LATER)

    assert await table.open([opened(held.lease, epoch=0), opened(stale), opened(held.lease)]) == [False, False, True]


async def test_a_late_grant_opens_no_row_but_may_ask_again_if_it_has_one(
    table: JobTable,
) -> None:
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


async def test_only_the_own_tenant_cancels(table: JobTable) -> None:
    job = new_job()
    await table.insert([job])

    assert not await table.cancel(job.id, TenantId("other"))
    assert await table.cancel(job.id, TenantId("default"))
    assert not await table.cancel(job.id, TenantId("default"))


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
