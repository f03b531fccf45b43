"""Listings have connections and a time-out of their own, plans that fit, and cursors that tell nothing of others."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import new_job
from schemas.errors import ListingsBusy, ListingTooSlow, NotFound
from schemas.ids import AttemptId, BatchId, FileId, JobId, KeyId, ReplayId, TenantId
from schemas.replay import DeadLetters, NewReplay, Patch
from schemas.states import JobState
from storage.batches.batches import BatchTable
from storage.batches.files import FileTable
from storage.connect import Storage, opened
from storage.database.engine import transaction
from storage.database.listings import LISTING_CONNECTIONS, LISTINGS_OF_A_TENANT
from storage.dead_letters.reads import DeadLetterReads
from storage.dead_letters.replays import ReplayTable
from storage.dead_letters.writes import LetterTable
from storage.jobs.reads import JOBS, JobFilter, Reads
from storage.jobs.writes import JobTable
from storage.ledger.unresolved import SuspenseTable
from storage.tenancy.keys import KeyTable
from tests.support.sample_batches import new_batch

EMPTY = JobFilter(most=5)


MANY = """
INSERT INTO jobs (id, tenant_id, lane, model, endpoint, state, expires_at, max_tries, max_reprompts, request_digest,
    created_at)
SELECT 'many' || n, 'default', 'low', 'small', '/v1', 'completed', now(), 1, 1, 'd', now() - make_interval(secs => n)
FROM generate_series(1, 30000) n
"""


HANGING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@pytest.fixture
async def storage(fresh_database_url: str) -> AsyncIterator[Storage]:
    async with opened(fresh_database_url, application="tests", holder="tests", lease_seconds=30) as storage:
        yield storage


async def test_a_listing_that_takes_too_long_is_given_up_with_a_hint(storage: Storage, fresh_database_url: str) -> None:
    with psycopg.connect(fresh_database_url) as other:
        other.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")

        with pytest.raises(ListingTooSlow, match="narrow the filter"):
            await storage.reads.jobs(TenantId("default"), EMPTY)


async def test_listings_that_hang_take_no_connection_from_anything_else(
    storage: Storage, fresh_database_url: str
) -> None:
    tenants = [TenantId(f"t{number}") for number in range(LISTING_CONNECTIONS)]
    with psycopg.connect(fresh_database_url) as other:
        other.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        async with asyncio.TaskGroup() as group:
            hanging = [group.create_task(outcome_of(storage.reads.jobs(tenant, EMPTY))) for tenant in tenants * 4]
            await until_hanging(fresh_database_url, LISTING_CONNECTIONS)
            async with asyncio.timeout(1):
                assert await storage.keys.find("sk-nobody") is None

    endings = [task.result() for task in hanging]
    assert set(endings) == {ListingTooSlow, ListingsBusy}
    assert endings.count(ListingTooSlow) >= LISTING_CONNECTIONS


async def test_hanging_listings_leave_connections_to_others_and_the_operator(
    storage: Storage, fresh_database_url: str
) -> None:
    greedy, modest, third = TenantId("greedy"), TenantId("modest"), TenantId("third")
    everybody = DeadLetters(tenant_id=None)
    with psycopg.connect(fresh_database_url) as other:
        other.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        async with asyncio.TaskGroup() as group:
            hanging = [group.create_task(outcome_of(storage.reads.jobs(greedy, EMPTY))) for _ in range(6)]
            await until_hanging(fresh_database_url, LISTINGS_OF_A_TENANT)
            async with asyncio.timeout(1):
                assert await storage.files.newest(modest) == []
            hanging += [group.create_task(outcome_of(storage.reads.jobs(third, EMPTY)))]
            await until_hanging(fresh_database_url, LISTING_CONNECTIONS)
            async with asyncio.timeout(1):
                assert await storage.replay.newest(None, after=None, most=5) == []
            group.create_task(outcome_of(storage.dead_letters.newest(everybody)))

    endings = [task.result() for task in hanging]
    assert set(endings) == {ListingTooSlow, ListingsBusy}


async def until_hanging(database_url: str, number: int) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        async with asyncio.timeout(10):
            while connection.execute(HANGING).fetchone() != (number,):  # noqa: ASYNC110 - the server cannot tell us
                await asyncio.sleep(0.01)


async def outcome_of(listed: Awaitable[object]) -> type[BaseException] | None:
    try:
        await listed
    except (ListingTooSlow, ListingsBusy) as error:
        return type(error)
    return None


@pytest.mark.parametrize("state", list(JobState))
async def test_a_listing_by_state_reads_no_jobs_of_other_states(engine: AsyncEngine, state: JobState) -> None:
    await filled(engine)
    terms = {"tenant_id": "default", "state": state.value, "lane": None, "batch_id": None, "most": 51}

    async with transaction(engine) as connection:
        query = f"EXPLAIN {JOBS}"
        plan = await connection.execute(text(query), terms | {"after": None, "after_at": None})
        lines = [row[0] for row in plan]

    assert not any("Seq Scan" in line or "jobs_newest_first" in line for line in lines), lines
    assert any("jobs_at_rest" in line for line in lines) or state not in {JobState.COMPLETED, JobState.EXPIRED}, lines


async def filled(engine: AsyncEngine) -> None:
    """Many completed jobs of one tenant, as after some weeks."""
    async with transaction(engine) as connection:
        if await connection.scalar(text("SELECT count(*) FROM jobs WHERE id LIKE 'many%'")):
            return
        await connection.execute(text(MANY))
        await connection.execute(text("ANALYZE jobs"))


async def a_batch(engine: AsyncEngine, owner: TenantId) -> BatchId:
    return (await BatchTable(engine).create(new_batch(owner))).id


async def a_file(engine: AsyncEngine, owner: TenantId) -> FileId:
    async def parts() -> AsyncIterator[bytes]:
        yield b"x"

    name = FileId(f"file-{uuid.uuid4().hex}")
    return (await FileTable(engine).write(name, owner, parts(), filename="f", purpose="batch")).id


async def a_letter(engine: AsyncEngine, owner: TenantId) -> JobId:
    job = new_job(tenant_id=owner)
    await LetterTable(engine).bring([(job, "refused", None)])
    return job.id


async def a_replay(engine: AsyncEngine, owner: TenantId) -> ReplayId:
    new = NewReplay(
        id=ReplayId(f"replay_{uuid.uuid4().hex}"),
        tenant_id=owner,
        which=DeadLetters(tenant_id=owner),
        patch=Patch(deadline_seconds=60),
    )
    return (await ReplayTable(engine).create(new)).id


async def a_job(engine: AsyncEngine, owner: TenantId) -> JobId:
    job = new_job(tenant_id=owner)
    await JobTable(engine, holder="w", lease_seconds=30).insert([job])
    return job.id


Make = Callable[[AsyncEngine, TenantId], Awaitable[Any]]
List = Callable[[AsyncEngine, TenantId, Any], Awaitable[Any]]


@pytest.mark.parametrize(
    ("make", "listed"),
    [
        (a_job, lambda engine, owner, after: Reads(engine).jobs(owner, JobFilter(after=after, most=5))),
        (a_batch, lambda engine, owner, after: BatchTable(engine).newest(owner, after=after, most=5)),
        (a_file, lambda engine, owner, after: FileTable(engine).newest(owner, after=after, most=5)),
        (
            a_letter,
            lambda engine, owner, after: DeadLetterReads(engine).newest(
                DeadLetters(tenant_id=owner), after=after, most=5
            ),
        ),
        (a_replay, lambda engine, owner, after: ReplayTable(engine).newest(owner, after=after, most=5)),
    ],
    ids=["jobs", "batches", "files", "letters", "replays"],
)
async def test_a_cursor_of_another_tenant_is_one_that_does_not_exist(
    engine: AsyncEngine, make: Make, listed: List
) -> None:
    own, other = TenantId(f"t{uuid.uuid4().hex[:8]}"), TenantId(f"t{uuid.uuid4().hex[:8]}")
    for tenant in (own, other):
        await KeyTable(engine).create(KeyId(f"key_{tenant}"), f"sk-{tenant}", tenant, ["submit"])
    first, second = await make(engine, own), await make(engine, own)
    foreign = await make(engine, other)

    assert [row.id for row in await listed(engine, own, None)] == [second, first]
    assert [row.id for row in await listed(engine, own, second)] == [first]
    for cursor in (foreign, "nothing"):
        with pytest.raises(NotFound) as refused:
            await listed(engine, own, cursor)
        assert refused.value.message == f"There is nothing with the id '{cursor}' in this listing."


async def test_a_cursor_into_suspense_must_be_an_attempt(engine: AsyncEngine) -> None:
    with pytest.raises(NotFound):
        await SuspenseTable(engine).oldest(after=AttemptId("att_nothing"))
