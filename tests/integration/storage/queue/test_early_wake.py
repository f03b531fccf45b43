"""Parked jobs wake early, once, when what they wait for was raised; the change is seen by whoever comes next."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import new_job
from schemas.decision import Park
from schemas.ids import JobId
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.queue.early_wake import Change, ParkedTable, Waiters
from storage.queue.transitions import DueTable
from storage.tenancy.configuration import ConfigTable

BUDGET = Waiters(reason="budget")


async def park(engine: AsyncEngine, count: int, *, reason: str, model: str = "small") -> list[JobId]:
    table = JobTable(engine, holder="w", lease_seconds=30)
    jobs = [new_job(model=model) for _ in range(count)]
    await table.insert(jobs)
    held = await table.hold([(job.id, 0) for job in jobs])
    later = Park(until_at=datetime.now(UTC) + timedelta(minutes=30), reason=reason)
    await table.record([Record(lease=one.lease, closed=None, decision=later) for one in held if one])
    return [job.id for job in jobs]


async def soon(engine: AsyncEngine, jobs: list[JobId]) -> int:
    async with engine.connect() as connection:
        query = (
            "SELECT count(*) FROM jobs WHERE id = ANY(CAST(:ids AS text[])) AND wake_at < now() + interval '1 minute'"
        )
        return int((await connection.execute(text(query), {"ids": jobs})).scalar_one())


async def test_jobs_wake_early_in_bounded_rounds_and_once(engine: AsyncEngine) -> None:
    jobs, table = await park(engine, 25, reason="budget"), ParkedTable(engine)
    await table.note([], [BUDGET])

    rounds = [await table.wake_early(10, after_seconds=0, spread_seconds=0.001) for _ in range(4)]
    woken = await DueTable(engine).stage_due() + await DueTable(engine).stage_due()

    assert rounds == [10, 10, 5, 0]
    assert woken == 25
    async with engine.connect() as connection:
        query = text("SELECT DISTINCT state, generation FROM jobs WHERE id = ANY(CAST(:ids AS text[]))")
        assert (await connection.execute(query, {"ids": jobs})).all() == [("queued", 1)]


async def test_only_those_wake_that_wait_for_it(engine: AsyncEngine) -> None:
    meant = await park(engine, 2, reason="tokens_per_minute", model="a")
    other = await park(engine, 2, reason="tokens_per_minute", model="b")
    another = await park(engine, 2, reason="frozen", model="a")
    table = ParkedTable(engine)
    await table.note([], [Waiters(reason="tokens_per_minute", model="a")])

    await table.wake_early(after_seconds=0)

    assert [await soon(engine, jobs) for jobs in (meant, other, another)] == [2, 0, 0]


async def test_nobody_wakes_before_every_process_has_read_the_change(engine: AsyncEngine) -> None:
    jobs, table = await park(engine, 1, reason="in_flight"), ParkedTable(engine)
    await table.note([], [Waiters(reason="in_flight")])

    await table.wake_early()

    assert await soon(engine, jobs) == 0


async def test_a_change_is_seen_once_also_after_a_restart(engine: AsyncEngine) -> None:
    config = ConfigTable(engine)
    await config.set("limits/a/m", {"requests_per_minute": 5})
    [new] = await ParkedTable(engine).changes()
    await ParkedTable(engine).note([new], [])
    await config.set("limits/a/m", {"requests_per_minute": 9})

    [raised] = await ParkedTable(engine).changes()
    await ParkedTable(engine).note([raised], [])
    nothing = await ParkedTable(engine).changes()
    await config.forget("limits/a/m")
    [gone] = await ParkedTable(engine).changes()
    await ParkedTable(engine).note([gone], [])

    before, after = {"requests_per_minute": 5}, {"requests_per_minute": 9}
    assert new == Change(name="limits/a/m", version=1, before=None, after=before)
    assert raised == Change(name="limits/a/m", version=2, before=before, after=after)
    assert nothing == []
    assert (gone.before, gone.after) == (after, None)
    assert await ParkedTable(engine).changes() == []
