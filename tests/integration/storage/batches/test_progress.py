"""How a batch is doing, counted over its own jobs and through their indexes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import closed, new_job, opened
from schemas.decision import AskAgain, DeadLetter, DeadReason, Decision
from schemas.ids import BatchId, TenantId
from schemas.lanes import Lane
from storage.batches.progress import ATTEMPTS, DEAD, LANES, RECOVERIES, REPROMPTED
from storage.jobs.reads import Reads
from storage.jobs.record import Record
from storage.jobs.writes import JobTable

TENANT, BATCH = TenantId("default"), BatchId("batch_counted")
OF_MANY = {"batch_id": "many_7", "tenant_id": TENANT}
MANY_JOBS = """
INSERT INTO jobs (id, tenant_id, batch_id, custom_id, lane, model, endpoint, state, expires_at, max_tries,
    max_reprompts, request_digest)
SELECT 'many_' || n, 'default', 'many_' || n % 1000, n, 'low', 'small', '/v1/chat/completions',
    CASE n % 3 WHEN 0 THEN 'queued' WHEN 1 THEN 'completed' ELSE 'dead' END, now(), 5, 2, 'd'
FROM generate_series(1, 20000) AS n
"""
MANY_ATTEMPTS = """
INSERT INTO attempts (id, job_id, fence, account, model, epoch, stamp, counters, reserved_tokens, reserved_nano_usd,
    price, state, outcome, recovery, opened_at)
SELECT 'many_' || n, 'many_' || n, 1, 'a', 'm', 1, n, '[]', 1, 1, '{}', 'posted',
    CASE n % 5 WHEN 0 THEN 'invalid' ELSE 'valid' END, CASE n % 9 WHEN 0 THEN 'fenced' ELSE 'direct' END,
    now()
FROM generate_series(1, 20000) AS n
"""

BURIED = DeadLetter(reason=DeadReason.INVALID_OUTPUT, message="no")


async def lived(engine: AsyncEngine, number: int, *outcomes: tuple[str, str | None]) -> None:
    """Store a job of the batch and let it have these attempts, the last of which buries it."""
    table = JobTable(engine, holder="w", lease_seconds=30)
    job = new_job(batch_id=BATCH, custom_id=str(number), lane=Lane.LOW)
    await table.insert([job])
    [held] = await table.hold([(job.id, 0)])
    assert held is not None
    for index, (outcome, recovery) in enumerate(outcomes):
        attempt = replace(opened(held.lease), opened_at=datetime.now(UTC) + timedelta(seconds=index))
        await table.open([attempt])
        end = replace(closed(attempt), outcome=outcome, recovery=recovery)
        last = index + 1 == len(outcomes)
        decision: Decision = BURIED if last else AskAgain(body={}, reason="reprompt")
        await table.record([Record(lease=held.lease, closed=end, decision=decision)])


async def test_a_batch_is_counted_for_its_own_tenant(engine: AsyncEngine) -> None:
    await lived(engine, 1, ("invalid", None), ("valid", "fenced"))
    await lived(engine, 2, ("valid", "direct"))
    await lived(engine, 3, ("invalid", None))
    await JobTable(engine, holder="w", lease_seconds=30).insert([new_job(batch_id=BATCH, custom_id="4")])

    summary = await Reads(engine).summary(BATCH, TENANT)
    foreign = await Reads(engine).summary(BATCH, TenantId("other"))

    assert (summary.lanes, summary.dead) == ({"normal": 1}, {"invalid_output": 3})
    assert (summary.attempts, summary.recoveries) == ({"invalid": 2, "valid": 2}, {"fenced": 1})
    assert summary.reprompted == 1
    assert (foreign.lanes, foreign.attempts, foreign.reprompted) == ({}, {}, 0)


async def test_a_batch_among_many_is_counted_through_its_indexes(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(MANY_JOBS))
        await connection.execute(text(MANY_ATTEMPTS))
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE jobs, attempts"))
        plans = {
            query: "\n".join(row[0] for row in await connection.execute(text(f"EXPLAIN {query}"), OF_MANY))
            for query in (LANES, DEAD, ATTEMPTS, RECOVERIES, REPROMPTED)
        }

    for query, plan in plans.items():
        assert "jobs_of_batch" in plan, plan
        assert "attempts_of_job" in plan or "attempts" not in query, plan
        assert "Seq Scan" not in plan, plan
