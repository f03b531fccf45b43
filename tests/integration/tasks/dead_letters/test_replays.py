"""One replay, or one letter of it, that cannot go on ends with a reason; the replays of others go on."""

import random
import string
import uuid
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import new_job
from schemas.errors import ReplayFailed
from schemas.ids import JobId, KeyId, ReplayId, TenantId
from schemas.replay import DeadLetters, NewReplay, Patch, ReplayState
from storage.database.engine import transaction
from storage.dead_letters.replays import ReplayTable
from storage.dead_letters.writes import LetterTable
from storage.tenancy.keys import KeyTable
from tasks.dead_letters.replay import MOST_OF_TENANT, Replays
from tasks.maintenance.items import MOST_FAILURES

UNQUEUEABLE = "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=2_684))  # noqa: S311 - text that does not compress
"""As the name of a model: the index of dead letters holds it, and the one of queued jobs does not."""


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 1_000
        return self.seconds


def replays_of(engine: AsyncEngine) -> Replays:
    return Replays(ReplayTable(engine), LetterTable(engine), clock=Clock())


async def a_tenant(engine: AsyncEngine) -> TenantId:
    tenant = TenantId(f"t{uuid.uuid4().hex[:8]}")
    await KeyTable(engine).create(KeyId(f"key_{tenant}"), f"sk-{tenant}", tenant, ["submit"])
    return tenant


async def dead(engine: AsyncEngine, tenant: TenantId, **changes: object) -> JobId:
    job = new_job(tenant_id=tenant, **changes)
    await LetterTable(engine).bring([(job, "refused", None)])
    return job.id


def a_replay(tenant: TenantId, **changes: Any) -> NewReplay:  # noqa: ANN401 - checked by the dataclass
    which = DeadLetters(tenant_id=tenant)
    facts = {"which": which, "patch": Patch(deadline_seconds=60)} | changes
    return NewReplay(id=ReplayId(f"replay_{uuid.uuid4().hex}"), tenant_id=tenant, **facts)


async def state_of(engine: AsyncEngine, job_id: JobId) -> str:
    async with transaction(engine) as connection:
        return str(await connection.scalar(text("SELECT state FROM jobs WHERE id = :id"), {"id": job_id}))


async def test_a_letter_that_cannot_be_queued_stays_dead_and_says_why(engine: AsyncEngine) -> None:
    a, b, replays = await a_tenant(engine), await a_tenant(engine), replays_of(engine)
    odd, fine, other = await dead(engine, a, model=UNQUEUEABLE), await dead(engine, a), await dead(engine, b)
    first, second = await replays.rows.create(a_replay(a)), await replays.rows.create(a_replay(b))

    while await replays.advance_all():
        pass

    outcomes = await replays.rows.outcomes(first.id)
    assert [job_id for job_id, _ in outcomes.refusals] == [odd]
    assert UNQUEUEABLE not in outcomes.refusals[0][1]
    assert [await state_of(engine, job_id) for job_id in (odd, fine, other)] == ["dead", "queued", "queued"]
    for replay in (first, second):
        found = await replays.rows.find(replay.id, None)
        assert found is not None
        assert found.state is ReplayState.COMPLETED


class OddRows(ReplayTable):
    """The stored replays, one of which nobody can read any more."""

    odd = ReplayId("")

    async def find(self, replay_id: ReplayId, tenant_scope: TenantId | None) -> Any:  # noqa: ANN401 - as it stands there
        if replay_id == self.odd and tenant_scope is None:
            raise KeyError("deadline_seconds")
        return await super().find(replay_id, tenant_scope)


async def test_a_replay_that_goes_on_failing_is_stopped_and_others_go_on(engine: AsyncEngine) -> None:
    a, b, rows = await a_tenant(engine), await a_tenant(engine), OddRows(engine)
    replays = Replays(rows, LetterTable(engine), clock=Clock())
    await dead(engine, a)
    other = await dead(engine, b)
    rows.odd = (await replays.rows.create(a_replay(a))).id
    await replays.rows.create(a_replay(b))

    await replays.advance_all()
    assert await state_of(engine, other) == "queued"
    for _ in range(MOST_FAILURES):
        await replays.advance_all()

    stopped = await rows.find(rows.odd, a)
    assert (stopped.state, "KeyError" in stopped.detail) == (ReplayState.STOPPED, True)
    assert rows.odd not in await rows.under_way()


class NothingNext(ReplayTable):
    """The stored replays, none of which can be moved."""

    async def next(self, replay: object, most: int) -> Any:  # noqa: ANN401 - never returns
        raise OverflowError(most)


async def test_a_caller_who_waits_for_a_replay_learns_that_it_failed(engine: AsyncEngine) -> None:
    a = await a_tenant(engine)
    await dead(engine, a)
    replays, wanted = Replays(NothingNext(engine), LetterTable(engine)), a_replay(a)

    with pytest.raises(ReplayFailed, match="OverflowError"):
        await replays.replay_now(wanted)

    stopped = await replays.rows.find(wanted.id, a)
    assert stopped is not None
    assert stopped.state is ReplayState.STOPPED


async def test_a_replay_that_finds_nothing_leaves_nothing_behind(engine: AsyncEngine) -> None:
    a, replays = await a_tenant(engine), replays_of(engine)
    wanted = a_replay(a)

    assert await replays.replay_now(wanted) == []

    assert await replays.rows.find(wanted.id, a) is None


async def test_nobody_waits_behind_the_many_replays_of_another(engine: AsyncEngine) -> None:
    a, b, rows = await a_tenant(engine), await a_tenant(engine), CountedRows(engine)
    replays = Replays(rows, LetterTable(engine))
    many = [await replays.rows.create(a_replay(a)) for _ in range(3 * MOST_OF_TENANT)]
    own = await replays.rows.create(a_replay(b))

    await replays.advance_all()

    assert len(rows.found) == MOST_OF_TENANT + 1
    assert own.id in rows.found
    for _ in range(10):
        await replays.advance_all()
    assert {replay.id for replay in many} <= set(rows.found)


class CountedRows(ReplayTable):
    """The stored replays, and which of them had a turn."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self.found: list[ReplayId] = []

    async def find(self, replay_id: ReplayId, tenant_scope: TenantId | None) -> Any:  # noqa: ANN401 - as it stands there
        self.found.append(replay_id)
        return await super().find(replay_id, tenant_scope)


async def test_bodies_are_read_a_few_megabytes_at_a_time(engine: AsyncEngine) -> None:
    a, rows = await a_tenant(engine), ReplayTable(engine)
    for _ in range(6):
        await dead(engine, a, body={"model": "small", "messages": [], "pad": "x" * 1_500_000})
    replay = await rows.create(a_replay(a, patch=Patch(deadline_seconds=60, parameters={"temperature": 0})))

    page = [letter.body for letter in await rows.next(replay, 100)]

    assert len(page) == 2
    assert all(page)
