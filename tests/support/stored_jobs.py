"""Stored jobs: taking them, and reading their rows."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import new_job
from schemas.ids import JobId
from schemas.job import LeasedJob
from schemas.reply import Reply
from storage.jobs.writes import JobTable

REPLY = Reply(
    body={"id": "chatcmpl-1", "model": "m-2026"},
    text="{}",
    finish_reason="stop",
    refusal=None,
    usage=None,
    model="m-2026",
)
LATER = datetime(2027, 1, 1, tzinfo=UTC)


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
