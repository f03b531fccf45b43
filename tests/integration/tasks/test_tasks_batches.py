"""A batch file becomes jobs and comes back as result files, on a real Postgres."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import orjson
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.decision import Complete, DeadLetter, DeadReason
from schemas.ids import BatchId, FileId, TenantId
from schemas.job import CHAT_COMPLETIONS
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.reply import Reply
from storage.backlog import BacklogTable
from storage.batches import BatchTable, StoredBatch
from storage.files import FileTable
from storage.jobs import JobTable, Record
from storage.reads import Reads
from tasks.adapters import StoredBacklog, StoredBatches, StoredJobs
from tasks.batches import Batches
from tasks.dispatch import dispatch
from tasks.identity import new_batch_id, new_file_id, new_job_id
from tests.support.outlet import Open, Wire

TENANT = TenantId("default")
REPLY = Reply(body={"id": "c"}, text="", finish_reason="stop", refusal=None, usage=None, model="m")


class Words:
    def chain(self, model: str) -> object:
        return ()

    def schema_complaint(self, schema: JsonObject) -> str | None:
        return None


def line(custom_id: str) -> bytes:
    body = {"model": "small", "messages": [{"role": "user", "content": custom_id}]}
    return orjson.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT_COMPLETIONS, "body": body})


def batches_over(engine: AsyncEngine) -> Batches:
    jobs = StoredJobs(JobTable(engine, holder="upkeep", lease_seconds=30), Reads(engine))
    stored = StoredBatches(BatchTable(engine), FileTable(engine))
    return Batches(stored, jobs, Words(), now=lambda: datetime.now(UTC), new_job_id=new_job_id)


async def uploaded(engine: AsyncEngine, *lines: bytes) -> BatchId:
    async def parts() -> AsyncIterator[bytes]:
        yield b"\n".join(lines)

    file = await FileTable(engine).write(new_file_id(), TENANT, parts(), filename="in.jsonl", purpose="batch")
    batch = await BatchTable(engine).create(
        new_batch_id(),
        TENANT,
        endpoint=CHAT_COMPLETIONS,
        lane=Lane.LOW,
        completion_window="24h",
        window_seconds=86_400,
        input_file_id=file.id,
        metadata=None,
    )
    return batch.id


async def found(engine: AsyncEngine, batch_id: BatchId) -> StoredBatch:
    batch = await BatchTable(engine).find(batch_id, TENANT)
    assert batch is not None
    return batch


async def ended(engine: AsyncEngine, file_id: FileId | None) -> list[JsonObject]:
    assert file_id is not None
    return [orjson.loads(text) async for text in FileTable(engine).lines(file_id)]


async def test_a_batch_goes_from_its_file_to_its_files(engine: AsyncEngine) -> None:
    batch_id, wire = await uploaded(engine, *(line(f"c{n}") for n in range(1200))), Wire()
    table = JobTable(engine, holder="w", lease_seconds=30)

    await batches_over(engine).start_new()
    await dispatch(StoredBacklog(BacklogTable(engine)), wire, Open(5_000), slice_size=32)
    holds = await table.hold([(job.job_id, job.generation) for job in wire.jobs])
    held = [one for one in holds if one is not None]
    assert len(held) == (await found(engine, batch_id)).total == 1200
    dead = DeadLetter(reason=DeadReason.REFUSED, message="no")
    ends = [dead if one.job.custom_id == "c7" else Complete(reply=REPLY) for one in held]
    await table.record(
        [Record(lease=one.lease, closed=None, decision=end) for one, end in zip(held, ends, strict=True)]
    )
    await batches_over(engine).finish_rested()

    batch = await found(engine, batch_id)
    assert batch.status == "completed"
    assert {row["custom_id"] for row in await ended(engine, batch.output_file_id)} == {
        f"c{n}" for n in range(1200) if n != 7
    }
    [failed] = await ended(engine, batch.error_file_id)
    assert (failed["custom_id"], failed["error"]["code"]) == ("c7", "refused")


async def test_storing_twice_after_a_crash_makes_no_second_job(engine: AsyncEngine) -> None:
    batch_id = await uploaded(engine, line("a"), line("b"))
    batches = batches_over(engine)
    [(terms, file_id)] = await StoredBatches(BatchTable(engine), FileTable(engine)).validating()

    await batches._store(terms, file_id)  # noqa: SLF001 - what ran before the crash
    await batches.start_new()

    assert sum((await found(engine, batch_id)).jobs_by_state.values()) == 2


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ((line("a"), b"{broken", line("b")), "invalid_json_line"),
        ((line("a"), line("a")), "duplicate_custom_id"),
        ((), "empty_file"),
        ((b"", b"   "), "empty_file"),
    ],
)
async def test_a_wrong_file_fails_the_batch_and_stores_no_job(
    engine: AsyncEngine, lines: tuple[bytes, ...], code: str
) -> None:
    batch_id = await uploaded(engine, *lines)

    await batches_over(engine).start_new()

    batch = await found(engine, batch_id)
    assert (batch.status, batch.errors[0]["code"]) == ("failed", code)
    assert batch.jobs_by_state == {}
