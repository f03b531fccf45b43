"""How many jobs wait: by lane and model, wherever they do, never counted beyond the bound and never by a scan."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import new_job, opened
from schemas.decision import Park, RetryAt
from schemas.job import LeasedJob
from schemas.lanes import Lane
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.queue.waiting_counts import BY_INDEX, WAITING, WaitingJobs, WaitingReads

LATER = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
async def jobs(engine: AsyncEngine) -> JobTable:
    """A table with nothing in it."""
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM jobs"))
    return JobTable(engine, holder="w", lease_seconds=30)


async def stored(jobs: JobTable, count: int, *, lane: Lane = Lane.LOW, model: str = "m") -> list[tuple[str, int]]:
    new = [new_job(lane=lane, model=model) for _ in range(count)]
    await jobs.insert(new)
    return [(job.id, 0) for job in new]


async def held(jobs: JobTable, count: int, *, lane: Lane = Lane.LOW, model: str = "m") -> list[LeasedJob]:
    taken = await jobs.hold(await stored(jobs, count, lane=lane, model=model))  # type: ignore[arg-type]  # ids are text
    return [one for one in taken if one is not None]


async def park(jobs: JobTable, count: int, reason: str, *, lane: Lane = Lane.LOW) -> None:
    decision = Park(until_at=LATER, reason=reason)
    leases = [one.lease for one in await held(jobs, count, lane=lane)]
    await jobs.record([Record(lease=lease, closed=None, decision=decision) for lease in leases])


async def test_queued_published_parked_and_asking_jobs_wait_and_calls_do_not(
    engine: AsyncEngine, jobs: JobTable
) -> None:
    published = await stored(jobs, 3)
    await jobs.mark_dispatched([job_id for job_id, _ in published[:2]])  # type: ignore[misc]  # ids are text
    await park(jobs, 4, "frozen")
    await park(jobs, 2, "budget")
    asking, calling = await held(jobs, 2)
    await jobs.open([opened(calling.lease)])

    assert asking.lease.job_id != calling.lease.job_id
    assert await WaitingReads(engine).by_flow() == {
        (Lane.LOW, "m"): WaitingJobs(queued=3, in_place=1, parked=6),
    }


async def test_a_retry_and_a_job_at_rest_are_told_apart(engine: AsyncEngine, jobs: JobTable) -> None:
    [retried, cancelled] = await held(jobs, 2)
    later = RetryAt(at=LATER, reason="server")
    await jobs.record([Record(lease=retried.lease, closed=None, decision=later)])
    await jobs.cancel(cancelled.lease.job_id, None)

    assert await WaitingReads(engine).by_flow() == {(Lane.LOW, "m"): WaitingJobs(parked=1)}


async def test_lanes_and_models_are_counted_apart(engine: AsyncEngine, jobs: JobTable) -> None:
    await stored(jobs, 1, lane=Lane.CRITICAL, model="a")
    await stored(jobs, 2, lane=Lane.LOW, model="a")
    await stored(jobs, 3, lane=Lane.LOW, model="b")
    await park(jobs, 4, "in_flight", lane=Lane.NORMAL)

    assert await WaitingReads(engine).by_flow() == {
        (Lane.CRITICAL, "a"): WaitingJobs(queued=1),
        (Lane.LOW, "a"): WaitingJobs(queued=2),
        (Lane.LOW, "b"): WaitingJobs(queued=3),
        (Lane.NORMAL, "m"): WaitingJobs(parked=4),
    }


async def test_what_waits_for_its_batchs_canary_waits_for_no_model(engine: AsyncEngine, jobs: JobTable) -> None:
    await jobs.insert([new_job(lane=Lane.LOW, model="m") for _ in range(3)], held=True)
    await park(jobs, 1, "frozen")

    assert await WaitingReads(engine).by_flow() == {(Lane.LOW, "m"): WaitingJobs(parked=1)}


async def test_a_count_ends_at_its_bound(engine: AsyncEngine, jobs: JobTable) -> None:
    await stored(jobs, 7)
    await park(jobs, 6, "frozen")

    assert await WaitingReads(engine).by_flow(most=5) == {(Lane.LOW, "m"): WaitingJobs(queued=5, parked=5)}


async def test_what_a_dead_worker_held_waits_for_its_rescue_and_not_for_a_model(
    engine: AsyncEngine, jobs: JobTable
) -> None:
    await held(jobs, 1)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 second'"))

    assert await WaitingReads(engine).by_flow() == {}


FILL = """
INSERT INTO jobs (id, tenant_id, lane, model, endpoint, state, expires_at, max_tries, max_reprompts, request_digest,
    dispatched_at, wake_at, wait_reason)
SELECT gen_random_uuid()::text, 'default', (ARRAY['low', 'high'])[1 + n % 2], 'm' || n % 3, '/',
    CASE WHEN n % 5 < 2 THEN 'queued' ELSE 'waiting' END, now() + interval '1 day', 1, 1, '',
    CASE WHEN n % 5 = 0 THEN now() END, now(), CASE WHEN n % 5 >= 2 THEN 'frozen' END
FROM generate_series(1, 50000) n
"""


@pytest.mark.parametrize("tidied", [True, False])
async def test_a_large_backlog_is_counted_by_indexes(engine: AsyncEngine, jobs: JobTable, *, tidied: bool) -> None:
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text(FILL))
        await connection.execute(text("VACUUM (ANALYZE) jobs" if tidied else "ANALYZE jobs"))
    async with engine.begin() as connection:
        for statement in BY_INDEX:
            await connection.execute(text(statement))
        plan = await connection.execute(text(f"EXPLAIN {WAITING}"), {"most": 10_000})
        lines = [str(line) for line in plan.scalars()]

    scans = [line.partition("->")[2].split(" using ")[0].strip() for line in lines if " on jobs" in line]
    assert len(scans) == 10
    assert set(scans) == {"Index Only Scan", "Index Scan"}, scans
    assert scans.count("Index Only Scan") == 9 or not tidied  # before, some of the rows have to be looked at
