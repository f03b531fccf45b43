"""Dead letters and replays against a real Postgres: seen by cause, moved once, changed as asked, found quickly."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import closed, new_job, opened
from schemas.contract import OutputContract
from schemas.decision import AskAgain, Complete, DeadLetter, DeadReason, Decision
from schemas.errors import IdempotencyConflict
from schemas.ids import BatchId, JobId, ReplayId, TenantId
from schemas.lanes import Lane
from schemas.replay import DeadLetters, NewReplay, Patch, ReplayState
from schemas.reply import Reply
from schemas.states import JobState
from storage.dead_letters.reads import GROUPS, NEWEST, DeadLetterReads, conditions
from storage.dead_letters.replays import ReplayTable
from storage.dead_letters.writes import LetterTable
from storage.jobs.reads import Reads
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from tasks.dead_letters.replay import Replays

REPLY = Reply(body={"id": "c", "model": "m-2026"}, text="", finish_reason="stop", refusal=None, usage=None, model="m")
TENANT = TenantId("default")
DEAD = DeadLetter(reason=DeadReason.INVALID_OUTPUT, message="price: '12' is not of type 'number'")


@pytest.fixture
def table(engine: AsyncEngine) -> JobTable:
    return JobTable(engine, holder="w", lease_seconds=30)


@pytest.fixture
def replays(engine: AsyncEngine) -> Replays:
    return Replays(ReplayTable(engine), LetterTable(engine))


async def ended(table: JobTable, decision: Decision = DEAD, **changes: object) -> JobId:
    job = new_job(**changes)
    await table.insert([job])
    await end(table, job.id, 0, decision)
    return job.id


async def end(table: JobTable, job_id: JobId, generation: int, decision: Decision) -> None:
    [held] = await table.hold([(job_id, generation)])
    assert held is not None
    attempt = opened(held.lease)
    await table.open([attempt])
    await table.record([Record(lease=held.lease, closed=closed(attempt), decision=decision)])


def a_replay(which: DeadLetters, patch: Patch | None = None, **changes: Any) -> NewReplay:  # noqa: ANN401 - checked by the dataclass
    return NewReplay(
        id=ReplayId(f"replay_{uuid.uuid4().hex}"),
        tenant_id=which.tenant_id,
        which=which,
        patch=patch or Patch(deadline_seconds=60),
        **changes,
    )


async def row(engine: AsyncEngine, job_id: str) -> dict[str, Any]:
    async with engine.connect() as connection:
        found = await connection.execute(
            text("SELECT * FROM jobs JOIN job_bodies ON job_id = id WHERE id = :id"), {"id": job_id}
        )
        return dict(found.mappings().one())


async def moved_to_its_end(replays: Replays, replay_id: ReplayId) -> ReplayState:
    for _ in range(100):
        found = await replays.rows.find(replay_id, None)
        assert found is not None
        if not found.state.under_way or not await replays.advance(found):
            return found.state
    raise AssertionError("it does not end")


async def test_letters_of_one_cause_are_one_group_whatever_their_values(engine: AsyncEngine, table: JobTable) -> None:
    batch = BatchId("b_groups")
    for value in ("'12'", "'a: b; c'", '"it\'s"'):
        message = f"price: {value} is not of type 'number'"
        await ended(table, DeadLetter(reason=DeadReason.INVALID_OUTPUT, message=message), batch_id=batch)
    await ended(table, DeadLetter(reason=DeadReason.REFUSED, message="no"), batch_id=batch)

    first, second = await DeadLetterReads(engine).groups(DeadLetters(batch_id=batch))

    assert (first.jobs, first.cause, first.spent_nano_usd) == (3, "price: a string where a number belongs", 126)
    assert (second.jobs, second.reason) == (1, "refused")
    named = DeadLetters(batch_id=batch, fingerprint=first.fingerprint)
    assert len(await DeadLetterReads(engine).newest(named)) == 3


async def test_pages_of_dead_letters_hold_each_one_once(engine: AsyncEngine, table: JobTable) -> None:
    dead = [await ended(table, batch_id=BatchId("b_pages"), custom_id=str(n)) for n in range(7)]
    reads, which = DeadLetterReads(engine), DeadLetters(batch_id=BatchId("b_pages"))

    seen: list[JobId] = []
    while page := await reads.newest(which, after=seen[-1] if seen else None, most=3):
        seen += [letter.id for letter in page]

    assert seen == list(reversed(dead))
    assert [whole.letter.id async for whole in reads.whole(which)] == seen


async def test_a_story_tells_the_first_and_the_last_error(engine: AsyncEngine, table: JobTable) -> None:
    job = new_job()
    await table.insert([job])
    [held] = await table.hold([(job.id, 0)])
    assert held is not None
    for complaint in ("first", "second"):
        attempt = opened(held.lease)
        await table.open([attempt])
        bad = replace(closed(attempt), outcome="invalid", complaint=complaint)
        decision = DEAD if complaint == "second" else AskAgain(body={}, reason="reprompt")
        await table.record([Record(lease=held.lease, closed=bad, decision=decision)])

    story = await Reads(engine).story(job.id, TENANT)

    assert story is not None
    assert story.first_error is not None
    assert story.last_error is not None
    assert (story.first_error.message, story.last_error.message) == ("first", "second")


async def test_another_tenants_dead_letters_are_neither_shown_nor_replayed(
    engine: AsyncEngine, table: JobTable, replays: Replays
) -> None:
    job_id = await ended(table)
    foreign = DeadLetters(tenant_id=TenantId("other"), ids=(job_id,))

    assert await DeadLetterReads(engine).newest(foreign) == []
    assert await replays.replay_now(a_replay(foreign)) == []
    assert (await row(engine, job_id))["state"] == "dead"


async def test_a_letter_is_replayed_once_though_four_replays_want_it(
    engine: AsyncEngine, table: JobTable, replays: Replays
) -> None:
    dead = [await ended(table, model="once") for _ in range(20)]
    which = DeadLetters(tenant_id=TENANT, model="once")

    answers = await asyncio.gather(*(replays.replay_now(a_replay(which)) for _ in range(4)))

    assert sorted(one for answer in answers for one in answer) == sorted(dead)
    assert {(await row(engine, job_id))["generation"] for job_id in dead} == {1}


async def test_of_two_who_move_one_round_one_does(engine: AsyncEngine, table: JobTable, replays: Replays) -> None:
    await ended(table, model="round")
    begun = await replays.rows.create(a_replay(DeadLetters(model="round")))

    moved = await asyncio.gather(*(replays.advance(begun) for _ in range(4)))

    assert sum(moved) == 1
    found = await replays.rows.find(begun.id, None)
    assert found is not None
    assert (found.replayed, found.total) == (1, 1)


async def test_a_job_that_dies_again_is_not_replayed_again_by_the_same_replay(
    table: JobTable, replays: Replays
) -> None:
    job_id = await ended(table, model="again")
    begun = await replays.rows.create(a_replay(DeadLetters(model="again")))
    await replays.advance(begun)
    await end(table, job_id, 1, DEAD)

    assert await moved_to_its_end(replays, begun.id) is ReplayState.COMPLETED

    found = await replays.rows.find(begun.id, None)
    assert found is not None
    assert found.replayed == 1
    assert await replays.replay_now(a_replay(DeadLetters(ids=(job_id,)))) == [job_id]


async def test_a_job_that_dies_later_is_no_business_of_a_replay_made_before(
    engine: AsyncEngine, table: JobTable, replays: Replays
) -> None:
    begun = await replays.rows.create(a_replay(DeadLetters(model="later")))
    job_id = await ended(table, model="later")

    assert await moved_to_its_end(replays, begun.id) is ReplayState.COMPLETED

    assert (await row(engine, job_id))["state"] == "dead"


async def test_a_patch_changes_request_and_columns_together(
    engine: AsyncEngine, table: JobTable, replays: Replays
) -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": "a"}], "response_format": {"type": "text"}}
    job_id = await ended(table, body=body, lane=Lane.LOW)
    schema = {"type": "object", "required": ["price"]}
    patch = Patch(
        deadline_seconds=60,
        model="large",
        lane=Lane.HIGH,
        parameters={"temperature": 0},
        contract=OutputContract(schema=schema),
        message={"role": "user", "content": "b"},
    )

    await replays.replay_now(a_replay(DeadLetters(ids=(job_id,)), patch))

    found = await row(engine, job_id)
    assert (found["model"], found["lane"], found["contract"]["schema"]) == ("large", "high", schema)
    assert found["body"] == {
        "model": "large",
        "messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        "temperature": 0,
    }
    assert (found["tries"], found["dead_reason"], found["fingerprint"], found["cause"]) == (0, None, None, None)
    assert found["request_digest"] != "digest"


async def test_a_letter_that_the_patch_does_not_fit_stays_dead_and_is_named(
    engine: AsyncEngine, table: JobTable, replays: Replays
) -> None:
    job_id = await ended(table, model="unfit", body={"model": "small"})
    patch = Patch(deadline_seconds=60, message={"role": "user", "content": "b"})
    new = a_replay(DeadLetters(model="unfit"), patch)

    assert await replays.replay_now(new) == []

    assert (await row(engine, job_id))["state"] == "dead"
    assert [refused for refused, _ in (await replays.rows.outcomes(new.id)).refusals] == [job_id]


@pytest.mark.parametrize("good", [2, 1])
async def test_canaries_decide_about_the_rest(
    engine: AsyncEngine, table: JobTable, replays: Replays, good: int
) -> None:
    state, queued = (ReplayState.COMPLETED, 3) if good == 2 else (ReplayState.STOPPED, 0)
    model = f"canary-{good}"
    dead = [await ended(table, model=model) for _ in range(5)]
    begun = await replays.rows.create(a_replay(DeadLetters(model=model), canary=2, threshold=0.9))

    waits = await moved_to_its_end(replays, begun.id)
    for number, job_id in enumerate(dead[:2]):
        await end(table, job_id, 1, Complete(reply=REPLY) if number < good else DEAD)
    ends = await moved_to_its_end(replays, begun.id)

    assert (waits, ends) == (ReplayState.JUDGING, state)
    states = [(await row(engine, job_id))["state"] for job_id in dead[2:]]
    assert states.count("queued") == queued
    if ends is ReplayState.STOPPED:
        assert await replays.rows.resume(begun.id, None)
        assert await moved_to_its_end(replays, begun.id) is ReplayState.COMPLETED


async def test_a_rate_holds_a_replay_back(table: JobTable, replays: Replays) -> None:
    for _ in range(4):
        await ended(table, model="paced")
    begun = await replays.rows.create(a_replay(DeadLetters(model="paced"), per_second=0.001))

    assert await replays.advance(begun) == 0
    assert await moved_to_its_end(replays, begun.id) is ReplayState.RUNNING


async def test_a_cancelled_replay_moves_nothing_more(engine: AsyncEngine, table: JobTable, replays: Replays) -> None:
    job_id = await ended(table, model="cancelled")
    begun = await replays.rows.create(a_replay(DeadLetters(model="cancelled")))

    assert await replays.rows.cancel(begun.id, None)
    assert await replays.advance(begun) == 0
    assert not await replays.rows.cancel(begun.id, None)
    assert (await row(engine, job_id))["state"] == "dead"


async def test_the_same_command_under_a_key_is_one_replay_and_another_is_refused(replays: Replays) -> None:
    which = DeadLetters(model="keyed", since_at=datetime(2026, 1, 1, tzinfo=UTC))
    first = await replays.rows.create(a_replay(which, idempotency_key="k"))

    assert (await replays.rows.create(a_replay(which, idempotency_key="k"))).id == first.id
    with pytest.raises(IdempotencyConflict):
        await replays.rows.create(a_replay(which, idempotency_key="k", canary=3))


async def test_a_replayed_job_that_completes_is_no_longer_a_dead_letter(
    engine: AsyncEngine, table: JobTable, replays: Replays
) -> None:
    job_id = await ended(table)
    await replays.replay_now(a_replay(DeadLetters(ids=(job_id,))))

    await end(table, job_id, 1, Complete(reply=REPLY))

    rested = await Reads(engine).rested(job_id)
    assert rested is not None
    assert (rested.state, rested.dead_reason, rested.message) == (JobState.COMPLETED, None, None)


async def test_discarded_and_retired_letters_are_neither_listed_nor_replayed(
    engine: AsyncEngine, table: JobTable, replays: Replays
) -> None:
    discarded, old, young = [await ended(table, model="aside") for _ in range(3)]
    async with engine.begin() as connection:
        older = text("UPDATE jobs SET rested_at = rested_at - interval '3 days' WHERE id = :id")
        await connection.execute(older, {"id": old})

    assert await replays.discard(DeadLetters(ids=(discarded,))) == [discarded]
    assert await LetterTable(engine).retire(older_than_days=2) == 1

    which = DeadLetters(model="aside")
    assert [letter.id for letter in await DeadLetterReads(engine).newest(which)] == [young]
    assert await replays.replay_now(a_replay(which)) == [young]


async def test_a_letter_that_died_without_a_cause_is_named(engine: AsyncEngine) -> None:
    job = new_job()
    await JobTable(engine, holder="web", lease_seconds=-1).insert_running(job)
    async with engine.begin() as connection:
        dies = "UPDATE jobs SET state = 'dead', dead_reason = 'caller_lost', rested_at = now() WHERE id = :id"
        await connection.execute(text(dies), {"id": job.id})

    while await LetterTable(engine).name():
        pass

    assert (await row(engine, job.id))["fingerprint"].startswith("caller_lost.")


async def test_an_import_stores_a_letter_once(engine: AsyncEngine, replays: Replays) -> None:
    job = new_job(id=JobId("job_imported"), request_digest="imported:x")
    letters = LetterTable(engine)

    first = await letters.bring([(job, "invalid_output", "price: 'x' is not of type 'number'")])
    again = await letters.bring([(job, "invalid_output", None)])

    assert (first, again) == ([job.id], [])
    assert await replays.replay_now(a_replay(DeadLetters(ids=(job.id,)))) == [job.id]


@pytest.fixture
async def crowd(engine: AsyncEngine) -> AsyncIterator[None]:
    yield
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM jobs WHERE id LIKE 'crowd%'"))


@pytest.mark.parametrize(
    ("query", "which"),
    [
        (NEWEST, DeadLetters()),
        (NEWEST, DeadLetters(tenant_id=TENANT, fingerprint="f7")),
        (NEWEST, DeadLetters(reason=DeadReason.POISON)),
        (GROUPS, DeadLetters(tenant_id=TENANT)),
    ],
)
async def test_dead_letters_are_found_without_a_scan_of_the_jobs(
    engine: AsyncEngine, crowd: None, query: str, which: DeadLetters
) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO jobs (id, tenant_id, lane, model, endpoint, state, expires_at, max_tries, max_reprompts,"
                " request_digest, dead_reason, fingerprint, cause, rested_at, dead_nano_usd)"
                " SELECT 'crowd' || n, 'default', 'low', 'm', '/',"
                " CASE WHEN n % 4 = 0 THEN 'dead' ELSE 'completed' END,"
                " now(), 1, 1, '', 'unknown', 'f' || n % 50, 'c', now(), 1 FROM generate_series(1, 20000) n"
            )
        )
        await connection.execute(text("ANALYZE jobs"))
        plan = await connection.execute(
            text(f"EXPLAIN {query}"), conditions(which) | {"after": None, "after_at": None, "most": 50}
        )
        lines = [str(line) for line in plan.scalars()]
        await connection.rollback()

    assert not [line for line in lines if "Seq Scan on jobs" in line], lines
