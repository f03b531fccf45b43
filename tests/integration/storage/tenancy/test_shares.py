"""What tenants use, counted by a real Postgres; and urgent jobs that intake leaves to dispatch."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import new_job
from schemas.decision import Expire
from schemas.ids import BatchId, FileId, TenantId
from schemas.job import NewJob
from schemas.lanes import Lane
from schemas.tenants import EVERY_LANE
from storage.batches.batches import BatchTable
from storage.batches.files import FileTable
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.queue.backlog import BacklogTable
from storage.queue.urgent import UrgentTable
from storage.tenancy.usage import UsageTable
from tests.support.sample_batches import new_batch

KEPT = {"settle_seconds": 0.0, "anew_seconds": 3_600.0}
ANEW = {"settle_seconds": 0.0, "anew_seconds": 0.0}


async def a_tenant(engine: AsyncEngine, name: str) -> TenantId:
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO tenants (id) VALUES (:id)"), {"id": name})
    return TenantId(name)


def jobs_of(engine: AsyncEngine) -> JobTable:
    return JobTable(engine, holder="w", lease_seconds=30)


async def stored(engine: AsyncEngine, tenant_id: TenantId, count: int, **facts: object) -> list[NewJob]:
    jobs = [new_job(tenant_id=tenant_id, **facts) for _ in range(count)]
    await jobs_of(engine).insert(jobs)
    return jobs


async def test_open_jobs_are_those_of_any_lane_and_state_but_at_rest(engine: AsyncEngine) -> None:
    tenant_id = await a_tenant(engine, "open")
    jobs, table = jobs_of(engine), UsageTable(engine)
    for lane in Lane:
        await stored(engine, tenant_id, 2, lane=lane, model=f"m-{lane}")
    await BacklogTable(engine).take(Lane.LOW, "m-low", 1)
    await jobs.insert([new_job(tenant_id=tenant_id)], held=True)
    await jobs.insert_running(new_job(tenant_id=tenant_id))
    [finished] = await stored(engine, tenant_id, 1)
    held = await jobs.hold([(finished.id, 0)])
    assert held[0] is not None
    assert await table.open_jobs(tenant_id, 1_000) == 11

    assert await jobs.record([Record(lease=held[0].lease, closed=None, decision=Expire())]) == [True]

    assert await table.open_jobs(tenant_id, 1_000) == 10
    assert await table.open_jobs(tenant_id, 4) == 4
    assert await table.open_jobs(TenantId("nobody"), 1_000) == 0


async def test_a_batch_waits_until_its_file_is_read(engine: AsyncEngine) -> None:
    tenant_id = await a_tenant(engine, "batches")
    batches, table = BatchTable(engine), UsageTable(engine)
    for number in range(2):
        await batches.create(new_batch(tenant_id, id=BatchId(f"b{number}")))
    await batches.start(BatchId("b0"), 1)

    assert await table.waiting_batches(tenant_id) == 1


async def test_bytes_are_those_of_files_whole_or_not_and_of_jobs(engine: AsyncEngine) -> None:
    tenant_id = await a_tenant(engine, "bytes")
    files, table = FileTable(engine), UsageTable(engine)

    async def content(size: int, *, breaks: bool = False):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a stream
        yield b"x" * size
        if breaks:
            used_meanwhile.append(await table.bytes_stored(tenant_id))

    used_meanwhile: list[int] = []
    about = {"filename": "f", "purpose": "batch"}
    await files.write(FileId("bytes-1"), tenant_id, content(3_000), **about)
    await files.write(FileId("bytes-2"), tenant_id, content(2_000_000, breaks=True), **about)
    assert used_meanwhile == [2_003_000]
    assert await table.bytes_stored(tenant_id) == 2_003_000

    await stored(engine, tenant_id, 3, body={"model": "m", "text": "y" * 1_000})
    at_once = await table.bytes_stored(tenant_id)
    assert await table.count_slice(tenant_id, **KEPT) == 3

    assert at_once == await table.bytes_stored(tenant_id) > 2_003_000 + 3 * 1_000


async def test_bytes_of_jobs_are_added_up_in_slices_and_each_once(engine: AsyncEngine) -> None:
    tenant_id = await a_tenant(engine, "slices")
    table = UsageTable(engine)
    await stored(engine, tenant_id, 25)
    everything = await table.bytes_stored(tenant_id)

    counted = [await table.count_slice(tenant_id, 10, **KEPT) for _ in range(5)]

    assert counted == [10, 10, 5, 0, 0]
    assert await table.bytes_stored(tenant_id) == everything
    await stored(engine, tenant_id, 5)
    assert await table.bytes_stored(tenant_id) == pytest.approx(everything * 30 / 25)


async def test_adding_up_anew_forgets_deleted_jobs_and_nothing_before_it_ends(engine: AsyncEngine) -> None:
    tenant_id = await a_tenant(engine, "anew")
    table = UsageTable(engine)
    jobs = await stored(engine, tenant_id, 20)
    await table.count_slice(tenant_id, **KEPT)
    everything = await table.bytes_stored(tenant_id)
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM jobs WHERE id = ANY(:ids)"), {"ids": [job.id for job in jobs[:10]]})
    assert await table.bytes_stored(tenant_id) == everything

    await table.count_slice(tenant_id, 8, **ANEW)
    assert await table.bytes_stored(tenant_id) == everything
    await table.count_slice(tenant_id, 8, **ANEW)

    assert await table.bytes_stored(tenant_id) == everything / 2


async def test_adding_up_anew_ends_even_while_jobs_keep_arriving(engine: AsyncEngine) -> None:
    tenant_id = await a_tenant(engine, "busy")
    table = UsageTable(engine)
    jobs = await stored(engine, tenant_id, 20)
    await table.count_slice(tenant_id, **KEPT)
    job_bytes = await table.bytes_stored(tenant_id) / 20
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM jobs WHERE id = ANY(:ids)"), {"ids": [job.id for job in jobs[:10]]})

    for _ in range(3):
        await stored(engine, tenant_id, 1)
        await table.count_slice(tenant_id, 8, **ANEW)

    assert await table.bytes_stored(tenant_id) == pytest.approx(job_bytes * 13)


async def test_a_tenant_that_does_not_exist_is_added_up_to_nothing(engine: AsyncEngine) -> None:
    assert await UsageTable(engine).bytes_stored(TenantId("nobody")) == 0


async def test_a_left_over_urgent_job_is_dispatched_at_once_in_its_tenants_turn(
    engine: AsyncEngine,
) -> None:
    greedy, modest = await a_tenant(engine, "flood"), await a_tenant(engine, "drop")
    flood = await stored(engine, greedy, 50, lane=Lane.CRITICAL, model="urgent")
    [single] = await stored(engine, modest, 1, lane=Lane.CRITICAL, model="urgent")
    backlog, urgent = BacklogTable(engine), UrgentTable(engine)
    assert await backlog.take(Lane.CRITICAL, "urgent", 10) == []

    await urgent.leave_to_dispatch([job.id for job in (*flood, single)])
    taken = await backlog.take(Lane.CRITICAL, "urgent", 10)

    assert len(taken) == 10
    assert single.id in {job_id for job_id, _ in taken[:2]}
    assert await urgent.unclaimed(greedy, Lane.CRITICAL, 32) == 9
    assert await urgent.unclaimed(greedy, Lane.CRITICAL, 5) == 5
    assert await urgent.unclaimed(greedy, Lane.HIGH, 32) == 0


async def test_the_lanes_of_a_key_stay_with_its_batch(engine: AsyncEngine) -> None:
    tenant_id = await a_tenant(engine, "lanes")
    batches = BatchTable(engine)

    few = await batches.create(new_batch(tenant_id, lanes=frozenset({Lane.LOW})))
    of_tenant = await batches.create(new_batch(tenant_id))

    assert (few.lanes, of_tenant.lanes) == (frozenset({Lane.LOW}), EVERY_LANE)
