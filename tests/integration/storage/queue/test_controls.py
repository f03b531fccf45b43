"""The operator's words against a real Postgres: in force with their commit, their jobs following in bounded rounds."""

from collections import Counter

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import new_job
from schemas.control import Kind, Subject, Verb
from schemas.decision import RetryAt
from schemas.ids import BatchId, TenantId
from schemas.job import NewJob
from schemas.lanes import Lane
from storage.batches.batches import BatchTable
from storage.jobs.claims import Claim
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.queue.backlog import BacklogTable
from storage.queue.controls import ControlTable
from storage.queue.poison_isolation import SuspectTable
from tests.support.sample_batches import new_batch

TENANT = TenantId("default")


def jobs_table(engine: AsyncEngine) -> JobTable:
    return JobTable(engine, holder="w", lease_seconds=30)


async def stored(engine: AsyncEngine, count: int, **facts: object) -> list[NewJob]:
    jobs = [new_job(**({"lane": Lane.LOW} | facts)) for _ in range(count)]
    await jobs_table(engine).insert(jobs)
    return jobs


async def tenant(engine: AsyncEngine, name: str) -> TenantId:
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO tenants (id) VALUES (:id)"), {"id": name})
    return TenantId(name)


async def states(engine: AsyncEngine, jobs: list[NewJob]) -> Counter[tuple[str, str]]:
    async with engine.connect() as connection:
        query = text("SELECT state, lane FROM jobs WHERE id = ANY(CAST(:ids AS text[]))")
        found = await connection.execute(query, {"ids": [job.id for job in jobs]})
        return Counter((row.state, row.lane) for row in found)


def subject_of(kind: Kind, job: NewJob) -> Subject:
    names = {Kind.JOB: job.id, Kind.BATCH: job.batch_id, Kind.TENANT: job.tenant_id, Kind.MODEL: job.model}
    return Subject(kind=kind, name=str(names.get(kind, job.lane)))


@pytest.mark.parametrize("kind", list(Kind))
async def test_what_is_paused_is_neither_dispatched_nor_held_until_it_is_resumed(
    engine: AsyncEngine, kind: Kind
) -> None:
    owner = await tenant(engine, f"paused_{kind}")
    facts = {"model": f"p-{kind}", "tenant_id": owner, "batch_id": BatchId(f"batch_p_{kind}"), "custom_id": "1"}
    [job] = await stored(engine, 1, **facts)
    table, backlog, subject = ControlTable(engine), BacklogTable(engine), subject_of(kind, job)
    [(_, generation)] = await backlog.take(Lane.LOW, job.model, 5)

    put_back = (await table.pause(subject)).jobs

    assert put_back == 1
    assert await backlog.take(Lane.LOW, job.model, 5) == []
    assert await jobs_table(engine).hold([(job.id, generation), (job.id, generation + 1)]) == [None, None]
    assert (await table.pause(subject)).jobs == 0

    await table.resume(subject)

    [(again, generation)] = await backlog.take(Lane.LOW, job.model, 5)
    [held] = await jobs_table(engine).hold([(again, generation)])
    assert held is not None
    assert await table.resume(subject) is None


@pytest.mark.parametrize("kind", list(Kind))
async def test_a_paused_suspect_is_not_started_and_runs_alone_when_resumed(engine: AsyncEngine, kind: Kind) -> None:
    owner = await tenant(engine, f"suspected_{kind}")
    facts = {"model": f"s-{kind}", "tenant_id": owner, "batch_id": BatchId(f"batch_s_{kind}"), "custom_id": "1"}
    [job] = await stored(engine, 1, **facts)
    table, backlog, suspects = ControlTable(engine), BacklogTable(engine), SuspectTable(engine)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE jobs SET deaths = 2 WHERE id = :id"), {"id": job.id})
    [(_, generation, _)] = await suspects.next_alone(1, 1, {})

    assert (await table.pause(subject_of(kind, job))).jobs == 1
    assert await suspects.next_alone(1, 1, {}) == []

    await table.resume(subject_of(kind, job))
    assert await backlog.take(Lane.LOW, job.model, 5) == []
    assert job.model not in {flow.model for flow in await backlog.flows()}
    assert await suspects.next_alone(1, 1, {}) == [(job.id, generation + 2, job.tenant_id)]
    assert any(await jobs_table(engine).hold([(job.id, generation + 2)]))


async def test_a_pause_leaves_others_of_its_flow_alone(engine: AsyncEngine) -> None:
    quiet = await tenant(engine, "others")
    await stored(engine, 5, model="others")
    theirs = await stored(engine, 2, model="others", tenant_id=quiet)
    table = ControlTable(engine)
    await table.pause(Subject(kind=Kind.TENANT, name="default"))

    taken = await BacklogTable(engine).take(Lane.LOW, "others", 10)

    await table.resume(Subject(kind=Kind.TENANT, name="default"))
    assert {job_id for job_id, _ in taken} == {job.id for job in theirs}


async def test_a_job_that_runs_is_not_interrupted_by_a_pause(engine: AsyncEngine) -> None:
    [job] = await stored(engine, 1, model="runs")
    claim, subject = Claim(job.id, 0, "unheard"), Subject(kind=Kind.MODEL, name="runs")
    [held] = await jobs_table(engine).hold([claim])

    await ControlTable(engine).pause(subject)

    assert held is not None
    assert [again and again.lease.fence for again in await jobs_table(engine).hold([claim])] == [held.lease.fence]
    assert await jobs_table(engine).renew([held.lease]) == {job.id}
    await ControlTable(engine).resume(subject)


@pytest.mark.parametrize("kind", [Kind.JOB, Kind.BATCH, Kind.TENANT, Kind.MODEL])
async def test_a_cancellation_stops_all_at_once_and_follows_in_rounds(engine: AsyncEngine, kind: Kind) -> None:
    owner = await tenant(engine, f"cancelled_{kind}")
    facts = {"model": f"c-{kind}", "tenant_id": owner, "batch_id": BatchId(f"batch_c_{kind}"), "custom_id": "1"}
    count = 1 if kind is Kind.JOB else 2_500
    jobs = await stored(engine, count, **facts)
    table, backlog, subject = ControlTable(engine), BacklogTable(engine), subject_of(kind, jobs[0])
    published = await backlog.take(Lane.LOW, jobs[0].model, 3)

    begun = await table.cancel(subject)

    assert begun.jobs == min(count, 2_000)
    assert await backlog.take(Lane.LOW, jobs[0].model, 5) == []
    assert not any(await jobs_table(engine).hold(published))
    while await table.sweep():
        pass
    assert await states(engine, jobs) == {("cancelled", "low"): count}


async def test_what_a_tenant_hands_in_after_its_cancellation_is_run(engine: AsyncEngine) -> None:
    owner = await tenant(engine, "again")
    before = await stored(engine, 2, model="again", tenant_id=owner)
    table = ControlTable(engine)
    await table.cancel(Subject(kind=Kind.TENANT, name="again"))
    [after] = await stored(engine, 1, model="again", tenant_id=owner)

    await table.sweep()

    assert await states(engine, before) == {("cancelled", "low"): 2}
    assert [job_id for job_id, _ in await BacklogTable(engine).take(Lane.LOW, "again", 5)] == [after.id]


async def test_a_call_under_way_may_finish_but_its_retry_is_cancelled(engine: AsyncEngine) -> None:
    [job] = await stored(engine, 1, model="retried")
    [held] = await jobs_table(engine).hold([(job.id, 0)])
    assert held is not None
    table = ControlTable(engine)
    await table.cancel(Subject(kind=Kind.MODEL, name="retried"))
    await table.sweep(linger_seconds=0)

    retry = RetryAt(at=job.expires_at, reason="server")
    assert await jobs_table(engine).record([Record(lease=held.lease, closed=None, decision=retry)]) == [True]
    await table.sweep(linger_seconds=0)

    assert await states(engine, [job]) == {("cancelled", "low"): 1}
    await table.sweep(linger_seconds=0)
    assert [one for one in await table.all() if one.subject.name == "retried"] == []


@pytest.mark.parametrize("kind", [Kind.JOB, Kind.BATCH, Kind.TENANT, Kind.MODEL])
async def test_what_is_moved_is_dispatched_from_its_new_lane(engine: AsyncEngine, kind: Kind) -> None:
    owner = await tenant(engine, f"moved_{kind}")
    facts = {"model": f"v-{kind}", "tenant_id": owner, "batch_id": BatchId(f"batch_v_{kind}"), "custom_id": "1"}
    count = 1 if kind is Kind.JOB else 2_500
    jobs = await stored(engine, count, **facts)
    table, backlog, subject = ControlTable(engine), BacklogTable(engine), subject_of(kind, jobs[0])
    published = await backlog.take(Lane.LOW, jobs[0].model, 3)

    await table.move(subject, Lane.NORMAL)

    assert await backlog.take(Lane.LOW, jobs[0].model, 5) == []
    assert len(await backlog.take(Lane.NORMAL, jobs[0].model, 5)) == min(count, 5)
    assert not any(await jobs_table(engine).hold(published[:1]))
    while await table.sweep():
        pass
    assert await states(engine, jobs) == {("queued", "normal"): count}


async def test_a_cancelled_batch_ends_and_so_does_a_cancelled_tenants(engine: AsyncEngine) -> None:
    owner = await tenant(engine, "ends")
    batches, table = BatchTable(engine), ControlTable(engine)
    for name in ("batch_x", "batch_y"):
        await batches.create(new_batch(owner, id=BatchId(name)))

    await table.cancel(Subject(kind=Kind.BATCH, name="batch_x"))
    first = [(await batches.find(BatchId(name), owner)) for name in ("batch_x", "batch_y")]
    await table.cancel(Subject(kind=Kind.TENANT, name="ends"))
    then = await batches.find(BatchId("batch_y"), owner)

    assert [batch.status for batch in first if batch] == ["cancelling", "validating"]
    assert then is not None
    assert then.status == "cancelling"


async def test_a_batch_that_is_still_being_stored_is_cancelled_to_its_last_line(engine: AsyncEngine) -> None:
    batch_id, table = BatchId("batch_growing"), ControlTable(engine)
    jobs = await stored(engine, 2, model="growing", batch_id=batch_id, custom_id="a")
    await table.cancel(Subject(kind=Kind.BATCH, name=batch_id))
    jobs += await stored(engine, 2, model="growing", batch_id=batch_id, custom_id="b")

    assert await BacklogTable(engine).take(Lane.LOW, "growing", 5) == []
    await table.sweep()

    assert await states(engine, jobs) == {("cancelled", "low"): 4}


async def test_what_is_in_force_survives_and_is_listed(engine: AsyncEngine) -> None:
    await stored(engine, 1, model="listed")
    await ControlTable(engine).pause(Subject(kind=Kind.MODEL, name="listed"))

    found = [one for one in await ControlTable(engine).all() if one.subject.name == "listed"]

    assert [(one.verb, one.subject.kind, one.lane) for one in found] == [(Verb.PAUSE, Kind.MODEL, None)]
    await ControlTable(engine).resume(Subject(kind=Kind.MODEL, name="listed"))


@pytest.mark.parametrize(
    ("kind", "known", "unknown"),
    [
        (Kind.TENANT, "default", "nobody"),
        (Kind.LANE, "low", "express"),
        (Kind.MODEL, "exists", "nothing"),
        (Kind.BATCH, None, "batch_0"),
        (Kind.JOB, None, "job_0"),
    ],
)
async def test_only_what_exists_can_be_named(engine: AsyncEngine, kind: Kind, known: str | None, unknown: str) -> None:
    await stored(engine, 1, model="exists")
    table = ControlTable(engine)

    assert not await table.exists(Subject(kind=kind, name=unknown))
    assert known is None or await table.exists(Subject(kind=kind, name=known))
