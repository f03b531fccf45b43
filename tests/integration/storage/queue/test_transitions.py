"""Upkeep's statements against a real Postgres: each moves a job once, and none scans the table."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import new_job, opened
from config.marks import LastMark
from schemas.admission import WaitReason
from schemas.decision import Park
from schemas.ids import KeyId, TenantId
from schemas.job import LeasedJob, NewJob
from schemas.lanes import Lane
from storage.database.leadership import Leadership
from storage.jobs.claims import Claim
from storage.jobs.reads import Reads
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.queue.backlog import BacklogTable
from storage.queue.poison_isolation import SUSPECT_DEATHS, SuspectTable
from storage.queue.process_deaths import DeathTable
from storage.queue.transitions import EXPIRE, MOST_PER_ROUND, MOST_UNEXPLAINED, STAGE_DUE, DueTable
from storage.tenancy.keys import KeyTable

PAST = datetime(2026, 1, 1, tzinfo=UTC)


async def job_state(engine: AsyncEngine, job_id: str) -> dict[str, Any]:
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT * FROM jobs WHERE id = :id"), {"id": job_id})
        return dict(found.mappings().one())


async def held_for(engine: AsyncEngine, lease_seconds: float) -> LeasedJob:
    table = JobTable(engine, holder="w", lease_seconds=lease_seconds)
    job = new_job()
    await table.insert([job])
    [held] = await table.hold([(job.id, 0)])
    assert held is not None
    return held


async def test_a_parked_job_is_woken_once_under_a_new_generation(engine: AsyncEngine) -> None:
    held = await held_for(engine, 30)
    table = JobTable(engine, holder="w", lease_seconds=30)
    await table.record([Record(lease=held.lease, closed=None, decision=Park(until_at=PAST, reason="frozen"))])

    woken = await asyncio.gather(*(DueTable(engine).stage_due() for _ in range(4)))

    assert sum(woken) == 1
    found = await job_state(engine, held.job.id)
    assert (found["state"], found["generation"], found["tries"]) == ("queued", 1, 0)


async def test_the_limit_a_job_waits_for_survives_wakes_deaths_and_returns(engine: AsyncEngine) -> None:
    held, table = await held_for(engine, 30), JobTable(engine, holder="w", lease_seconds=30)
    job_id, due = held.job.id, DueTable(engine)
    park = Park(until_at=PAST, reason=WaitReason.TENANT_TOKENS.value, waiting_since=PAST)

    async def held_again(lease_seconds: float) -> LeasedJob:
        generation = (await job_state(engine, job_id))["generation"]
        [again] = await JobTable(engine, holder="w", lease_seconds=lease_seconds).hold([(job_id, generation)])
        assert again is not None
        return again

    await table.record([Record(lease=held.lease, closed=None, decision=park)])
    await due.stage_due()
    story = await Reads(engine).story(job_id, held.job.tenant_id)
    woken = await held_again(-1)
    await due.rescue(datetime.now(UTC), renewal_seconds=0)
    rescued = await held_again(30)
    await table.hand_back([rescued.lease])
    returned = await held_again(30)

    assert [one.job.wait_reason for one in (woken, rescued, returned)] == [WaitReason.TENANT_TOKENS.value] * 3
    assert story is not None
    assert story.job.wait_reason is None  # it waits for no limit while it is queued


async def test_a_wait_for_no_limit_leaves_no_reason(engine: AsyncEngine) -> None:
    held, table = await held_for(engine, 30), JobTable(engine, holder="w", lease_seconds=30)
    await table.record([Record(lease=held.lease, closed=None, decision=Park(until_at=PAST, reason="server"))])

    await DueTable(engine).stage_due()

    assert (await job_state(engine, held.job.id))["wait_reason"] is None


async def test_a_dead_workers_job_is_rescued_and_its_attempt_goes_to_suspense(engine: AsyncEngine) -> None:
    held = await held_for(engine, -1)
    attempt = opened(held.lease)
    await JobTable(engine, holder="w", lease_seconds=30).open([attempt])

    assert len((await DueTable(engine).rescue(datetime.now(UTC), renewal_seconds=0)).jobs) == 1

    found = await job_state(engine, held.job.id)
    assert (found["state"], found["generation"], found["deaths"]) == ("queued", 1, 1)
    async with engine.connect() as connection:
        states = await connection.execute(
            text("SELECT state, cost_nano_usd FROM attempts WHERE id = :id"), {"id": attempt.id}
        )
        assert states.all() == [("suspense", 500)]


async def test_a_lease_that_still_runs_is_not_rescued(engine: AsyncEngine) -> None:
    await held_for(engine, 30)

    assert not (await DueTable(engine).rescue(datetime.now(UTC), renewal_seconds=0)).jobs


async def test_a_lease_that_ran_out_after_the_question_is_not_rescued(engine: AsyncEngine) -> None:
    held = await held_for(engine, 0)
    before = held.lease.until_at - timedelta(milliseconds=1)

    assert not (await DueTable(engine).rescue(before, renewal_seconds=0)).jobs
    assert (await DueTable(engine).rescue(datetime.now(UTC), renewal_seconds=0)).jobs == {held.job.id}


async def test_a_synchronous_job_whose_process_died_is_a_dead_letter(engine: AsyncEngine) -> None:
    job = new_job()
    await JobTable(engine, holder="web", lease_seconds=-1).insert_running(job)

    await DueTable(engine).rescue(datetime.now(UTC), renewal_seconds=0)

    found = await job_state(engine, job.id)
    assert (found["state"], found["dead_reason"]) == ("dead", "caller_lost")


async def held_by(engine: AsyncEngine, holder: str, jobs: int = 2) -> list[LeasedJob]:
    """Jobs whose leases have run out; each claim has a number, as those of worker processes have."""
    table = JobTable(engine, holder=holder, lease_seconds=-1)
    new = [new_job() for _ in range(jobs)]
    await table.insert(new)
    held = await table.hold([Claim(job.id, 0, str(number)) for number, job in enumerate(new)])
    return [one for one in held if one is not None]


async def deaths_of(engine: AsyncEngine, *held: LeasedJob) -> list[int]:
    return [(await job_state(engine, one.job.id))["deaths"] for one in held]


async def test_a_death_counts_for_the_job_that_was_worked_on_and_no_other(engine: AsyncEngine) -> None:
    culprit, neighbour = await held_by(engine, "reported")
    await DeathTable(engine).report([LastMark(holder="reported", job_id=culprit.job.id)])

    rescued = await DueTable(engine).rescue(datetime.now(UTC), renewal_seconds=0)

    assert rescued.jobs >= {culprit.job.id, neighbour.job.id}
    assert await deaths_of(engine, culprit, neighbour) == [1, 0]


async def test_a_death_between_steps_counts_for_nobody(engine: AsyncEngine) -> None:
    held = await held_by(engine, "idle")
    await DeathTable(engine).report([LastMark(holder="idle", job_id=None)])

    await DueTable(engine).rescue(datetime.now(UTC), renewal_seconds=0)

    assert await deaths_of(engine, *held) == [0, 0]


async def test_a_death_of_which_nothing_is_known_counts_for_all(engine: AsyncEngine) -> None:
    held = await held_by(engine, "unreported")

    await DueTable(engine).rescue(datetime.now(UTC), renewal_seconds=0)

    assert await deaths_of(engine, *held) == [1, 1]


async def test_who_loses_worker_after_worker_in_mid_call_is_suspected_in_the_end(engine: AsyncEngine) -> None:
    [first] = await held_by(engine, "lost-0", jobs=1)
    deaths = []
    for number in range(MOST_UNEXPLAINED + 1):
        holder = f"lost-{number}"
        table = JobTable(engine, holder=holder, lease_seconds=-1)
        if number:
            [held] = await table.hold([(first.job.id, number)])
            assert held is not None
        else:
            held = first
        await JobTable(engine, holder=holder, lease_seconds=30).open([opened(held.lease)])
        await DeathTable(engine).report([LastMark(holder=holder, job_id=None)])
        await DueTable(engine).rescue(datetime.now(UTC), renewal_seconds=0)
        deaths += await deaths_of(engine, first)

    assert deaths == [0] * MOST_UNEXPLAINED + [1]


async def test_the_caller_of_the_job_that_ended_its_process_is_told_so(engine: AsyncEngine) -> None:
    table = JobTable(engine, holder="web-1", lease_seconds=-1)
    culprit, neighbour = new_job(), new_job()
    for job in (culprit, neighbour):
        await table.insert_running(job)
    await DeathTable(engine).report([LastMark(holder="web-1", job_id=culprit.id)])

    await DueTable(engine).rescue(datetime.now(UTC), renewal_seconds=0)

    found, beside = await job_state(engine, culprit.id), await job_state(engine, neighbour.id)
    assert (found["state"], found["dead_reason"], found["deaths"]) == ("dead", "caller_lost", 1)
    assert "while it worked on this job" in found["message"]
    assert (beside["state"], beside["dead_reason"], beside["deaths"]) == ("dead", "caller_lost", 0)


async def test_the_first_report_of_a_process_stands_and_old_ones_go(engine: AsyncEngine) -> None:
    table = DeathTable(engine)
    await table.report([LastMark(holder="old", job_id=None)])
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE process_deaths SET reported_at = now() - interval '2 days'"))

    await table.report([LastMark(holder="new", job_id="job_1"), LastMark(holder="other", job_id=None)])
    await table.report([LastMark(holder="new", job_id=None)])

    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT holder, job_id FROM process_deaths ORDER BY holder"))
        assert [tuple(row) for row in found] == [("new", "job_1"), ("other", None)]


async def a_suspect(engine: AsyncEngine, tenant: str = "default") -> NewJob:
    table = JobTable(engine, holder="w", lease_seconds=-1)
    job = new_job(tenant_id=TenantId(tenant))
    await table.insert([job])
    for generation in range(SUSPECT_DEATHS):
        await table.hold([(job.id, generation)])
        await DueTable(engine).rescue(datetime.now(UTC), renewal_seconds=0)
    return job


async def test_a_job_whose_workers_died_twice_waits_to_run_alone(engine: AsyncEngine) -> None:
    job = await a_suspect(engine)

    found = await job_state(engine, job.id)
    assert (found["state"], found["wait_reason"]) == ("waiting", "suspect")
    assert await SuspectTable(engine).next_alone(1, 1, {}) == [(job.id, SUSPECT_DEATHS + 1, job.tenant_id)]
    assert await SuspectTable(engine).next_alone(1, 1, {}) == []


async def test_hung_suspects_of_one_tenant_leave_places_to_others(engine: AsyncEngine) -> None:
    suspects = SuspectTable(engine)
    await KeyTable(engine).create(KeyId("key_meek"), "sk-meek", meek := TenantId("meek"), ["submit"])
    crowd = [await a_suspect(engine) for _ in range(4)]
    own = await a_suspect(engine, meek)

    taken = await suspects.next_alone(6, 2, {})
    hung = {job_id: tenant_id for job_id, _, tenant_id in taken if tenant_id != meek}
    later = await suspects.next_alone(4, 2, hung, unclaimed_seconds=0)

    assert [tenant_id for _, _, tenant_id in taken].count(meek) == 1
    assert len(hung) == 2
    assert [job_id for job_id, _, _ in later] == [own.id]
    assert {job.id for job in crowd} >= set(hung)
    for job in (*crowd, own):
        await JobTable(engine, holder="w", lease_seconds=30).cancel(job.id, None)


async def test_only_a_death_alone_quarantines(engine: AsyncEngine) -> None:
    job, suspects = await a_suspect(engine), SuspectTable(engine)
    [(_, generation, _)] = await suspects.next_alone(1, 1, {})
    [held] = await JobTable(engine, holder="alone", lease_seconds=30).hold([(job.id, generation)])

    assert held is not None
    assert await suspects.quarantine(job.id, generation, "it died")
    assert not await suspects.quarantine(job.id, generation, "it died")
    found = await job_state(engine, job.id)
    assert (found["state"], found["dead_reason"]) == ("dead", "poison")


async def test_a_job_that_is_handed_back_has_no_death_on_it(engine: AsyncEngine) -> None:
    table = JobTable(engine, holder="w", lease_seconds=30)
    job = new_job()
    await table.insert([job])
    [held] = await table.hold([(job.id, 0)])
    assert held is not None

    assert await table.hand_back([held.lease]) == [True]
    assert await table.hand_back([held.lease]) == [False]

    found = await job_state(engine, job.id)
    assert (found["state"], found["deaths"], found["generation"]) == ("queued", 0, 1)


async def test_a_deadline_that_passes_in_the_queue_expires_the_job(engine: AsyncEngine) -> None:
    job = new_job(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    await JobTable(engine, holder="w", lease_seconds=30).insert([job])

    await DueTable(engine).expire()

    assert (await job_state(engine, job.id))["state"] == "expired"


async def test_a_published_job_that_nobody_holds_is_published_again(engine: AsyncEngine) -> None:
    await JobTable(engine, holder="w", lease_seconds=30).insert([new_job(lane=Lane.LOW, model="flow-b")])
    backlog = BacklogTable(engine)
    await backlog.take(Lane.LOW, "flow-b", 1)

    await DueTable(engine).forget_lost_messages(lost_seconds=0)

    assert len(await backlog.take(Lane.LOW, "flow-b", 1)) == 1


@pytest.mark.parametrize(
    ("query", "state", "bound"),
    [
        (EXPIRE, "queued", "expires_at <= statement_timestamp()"),
        (STAGE_DUE, "waiting", "wake_at <= statement_timestamp()"),
    ],
)
async def test_what_is_not_due_yet_is_not_read(engine: AsyncEngine, query: str, state: str, bound: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO jobs (id, tenant_id, lane, model, endpoint, state, expires_at, max_tries, max_reprompts,"
                " request_digest, wake_at) SELECT gen_random_uuid()::text, 'default', 'low', 'm', '/', :state,"
                " now() + interval '1 day', 1, 1, '', now() + interval '1 hour' FROM generate_series(1, 20000) n"
            ),
            {"state": state},
        )
        await connection.execute(text("ANALYZE jobs"))
        plan = "\n".join((await connection.execute(text(f"EXPLAIN {query}"), {"most": 10})).scalars())
        await connection.rollback()

    assert f"Index Cond: ({bound})" in plan, plan


async def test_after_a_wipe_all_messages_are_forgotten_at_once_however_many(engine: AsyncEngine) -> None:
    await JobTable(engine, holder="w", lease_seconds=30).insert(
        [new_job(lane=Lane.LOW, model="flow-wiped") for _ in range(MOST_PER_ROUND + 1)]
    )
    backlog = BacklogTable(engine)
    published = await backlog.take(Lane.LOW, "flow-wiped", MOST_PER_ROUND + 1)

    await DueTable(engine).forget_all_messages()

    assert len(published) == MOST_PER_ROUND + 1
    assert len(await backlog.take(Lane.LOW, "flow-wiped", MOST_PER_ROUND + 1)) == MOST_PER_ROUND + 1


async def test_one_candidate_leads_and_the_next_follows_when_its_lease_runs_out(engine: AsyncEngine) -> None:
    first = Leadership(engine, name="upkeep", holder="a", lease_seconds=-1)
    second = Leadership(engine, name="upkeep", holder="b")

    assert await first.lead()
    assert await second.lead()
    assert not await first.lead()

    await second.resign()
    assert await first.lead()
