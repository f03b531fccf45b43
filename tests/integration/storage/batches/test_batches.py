"""A batch's way from its file to its result files, and keys that open doors until they are revoked."""

from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import new_job
from schemas.decision import Complete, DeadLetter, DeadReason
from schemas.ids import BatchId, FileId, KeyId, TenantId
from schemas.reply import Reply
from schemas.states import JobState
from storage.batches.batches import BatchTable, StoredBatch
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.tenancy.keys import KeyTable
from tests.support.sample_batches import new_batch

TENANT = TenantId("default")
REPLY = Reply(body={"id": "c"}, text="", finish_reason="stop", refusal=None, usage=None, model="m")


async def created(engine: AsyncEngine, name: str) -> StoredBatch:
    return await BatchTable(engine).create(new_batch(TENANT, id=BatchId(name), metadata={"a": "b"}))


async def test_a_batch_ends_with_its_results_in_two_files(engine: AsyncEngine) -> None:
    batches, jobs = BatchTable(engine), JobTable(engine, holder="w", lease_seconds=30)
    batch = await created(engine, "batch_1")
    good, bad = (new_job(batch_id=batch.id, custom_id=name) for name in ("good", "bad"))
    await jobs.insert([good, bad])
    assert await batches.start(batch.id, 2)
    assert batch.id not in {found.id for found in await batches.all_at_rest()}

    leases = [held.lease for held in await jobs.hold([(good.id, 0), (bad.id, 0)]) if held]
    ends = [Complete(reply=REPLY), DeadLetter(reason=DeadReason.REFUSED, message="no")]
    await jobs.record([Record(lease=lease, closed=None, decision=end) for lease, end in zip(leases, ends, strict=True)])

    assert batch.id in {found.id for found in await batches.all_at_rest()}
    completed = [row async for row in batches.rested(batch.id, completed=True)]
    failed = [row async for row in batches.rested(batch.id, completed=False)]
    assert [(row.custom_id, row.reply) for row in completed] == [("good", '{"id":"c"}')]
    assert [(row.custom_id, row.dead_reason) for row in failed] == [("bad", "refused")]

    assert await batches.finish(batch.id, FileId("file-o"), FileId("file-e"))
    assert not await batches.finish(batch.id, FileId("file-x"), None)
    found = await batches.find(batch.id, TENANT)
    assert found is not None
    assert (found.status, found.output_file_id) == ("completed", "file-o")
    assert found.jobs_by_state == {JobState.COMPLETED: 1, JobState.DEAD: 1}


async def test_a_cancelled_batch_starts_nothing_more(engine: AsyncEngine) -> None:
    batches, jobs = BatchTable(engine), JobTable(engine, holder="w", lease_seconds=30)
    batch = await created(engine, "batch_2")
    job = new_job(batch_id=batch.id, custom_id="a")
    await jobs.insert([job])
    await batches.start(batch.id, 1)

    assert not await batches.cancel(batch.id, TenantId("other"))
    assert await batches.cancel(batch.id, TENANT)

    assert await jobs.hold([(job.id, 0)]) == [None]
    await batches.finish(batch.id, None, None)
    found = await batches.find(batch.id, TENANT)
    assert found is not None
    assert found.status == "cancelled"


async def test_a_refused_batch_says_why(engine: AsyncEngine) -> None:
    batches = BatchTable(engine)
    batch = await created(engine, "batch_3")

    await batches.refuse(batch.id, [{"code": "empty_file", "line": 1}])

    found = await batches.find(batch.id, TENANT)
    assert found is not None
    assert (found.status, found.errors) == ("failed", [{"code": "empty_file", "line": 1}])


async def test_listing_batches_goes_on_after_the_cursor(engine: AsyncEngine) -> None:
    for name in ("batch_x", "batch_y", "batch_z"):
        await created(engine, name)
    batches = BatchTable(engine)

    first = await batches.newest(TENANT, after=None, most=2)
    rest = await batches.newest(TENANT, after=first[-1].id, most=1)

    assert [batch.id for batch in [*first, *rest]] == ["batch_z", "batch_y", "batch_x"]


async def test_a_key_opens_until_it_is_revoked(engine: AsyncEngine) -> None:
    keys = KeyTable(engine)
    made = await keys.create(KeyId("key_1"), "sk-secret-of-acme", TenantId("acme"), ["submit"])

    found = await keys.find("sk-secret-of-acme")

    assert found is not None
    assert (found.tenant_id, found.scopes, found.prefix) == ("acme", {"submit"}, "sk-secret-")
    assert await keys.revoke(made.id)
    assert await keys.find("sk-secret-of-acme") is None
    assert not await keys.revoke(made.id)
    assert "acme" in await keys.tenants()
