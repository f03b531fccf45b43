"""A batch file becomes jobs and comes back as result files, on a real Postgres."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.accepted import Submission
from schemas.decision import Complete, DeadLetter, DeadReason
from schemas.ids import BatchId, FileId, KeyId, TenantId
from schemas.job import CHAT_COMPLETIONS, NewJob
from schemas.jsons import JsonObject
from schemas.reply import Reply
from storage.batches.batches import BatchTable, StoredBatch
from storage.batches.files import FileTable
from storage.database.engine import transaction
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.queue.backlog import BacklogTable
from storage.tenancy.keys import KeyTable
from tasks.batches.process import MAX_FILE_LINES, Batches
from tasks.dispatch.refill import dispatch
from tasks.maintenance.items import Isolation
from tasks.maintenance.slices import SLICE_NODES, Slice
from tasks.requests.chat import Vocabulary
from tasks.requests.new_ids import new_file_id, new_job_id
from tests.support.outlet import Open, Shares, Wire
from tests.support.sample_batches import new_batch

TENANT = TenantId("default")
REPLY = Reply(body={"id": "c"}, text="", finish_reason="stop", refusal=None, usage=None, model="m")


class Words:
    def chain(self, model: str) -> object:
        return ()

    def schema_complaint(self, schema: JsonObject) -> str | None:
        return None


def body(content: str, **changes: object) -> JsonObject:
    return {"model": "small", "messages": [{"role": "user", "content": content}]} | changes


def line(custom_id: str) -> bytes:
    request = body(custom_id)
    return orjson.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT_COMPLETIONS, "body": request})


def batches_over(engine: AsyncEngine, words: Vocabulary | None = None) -> Batches:
    return Batches(
        BatchTable(engine),
        FileTable(engine),
        JobTable(engine, holder="upkeep", lease_seconds=30),
        words or Words(),
        now=lambda: datetime.now(UTC),
        new_job_id=new_job_id,
    )


async def all_turns(duty: Callable[[], Awaitable[int]]) -> None:
    while await duty():
        pass


async def a_tenant(engine: AsyncEngine) -> TenantId:
    tenant = TenantId(f"t{uuid.uuid4().hex[:8]}")
    await KeyTable(engine).create(KeyId(f"key_{tenant}"), f"sk-{tenant}", tenant, ["submit"])
    return tenant


async def stored_file(engine: AsyncEngine, tenant: TenantId, *lines: bytes) -> FileId:
    async def parts() -> AsyncIterator[bytes]:
        yield b"\n".join(lines)

    return (await FileTable(engine).write(new_file_id(), tenant, parts(), filename="in.jsonl", purpose="batch")).id


async def uploaded(engine: AsyncEngine, *lines: bytes, tenant: TenantId = TENANT) -> BatchId:
    return await created(engine, await stored_file(engine, tenant, *lines), tenant)


async def created(engine: AsyncEngine, file_id: FileId, tenant: TenantId = TENANT) -> BatchId:
    return (await BatchTable(engine).create(new_batch(tenant, input_file_id=file_id))).id


async def found(engine: AsyncEngine, batch_id: BatchId, tenant: TenantId = TENANT) -> StoredBatch:
    batch = await BatchTable(engine).find(batch_id, tenant)
    assert batch is not None
    return batch


async def ended(engine: AsyncEngine, file_id: FileId | None) -> list[JsonObject]:
    assert file_id is not None
    return [orjson.loads(one) async for one in FileTable(engine).lines(file_id)]


async def test_a_batch_goes_from_its_file_to_its_files(engine: AsyncEngine) -> None:
    batch_id, wire = await uploaded(engine, *(line(f"c{n}") for n in range(1200))), Wire()
    table = JobTable(engine, holder="w", lease_seconds=30)

    await all_turns(batches_over(engine).start_new)
    await dispatch(BacklogTable(engine), wire, Open(5_000), Shares(), slice_size=32, isolation=Isolation("dispatch"))
    holds = await table.hold([(job.job_id, job.generation) for job in wire.jobs])
    held = [one for one in holds if one is not None]
    assert len(held) == (await found(engine, batch_id)).total == 1200
    dead = DeadLetter(reason=DeadReason.REFUSED, message="no")
    ends = [dead if one.job.custom_id == "c7" else Complete(reply=REPLY) for one in held]
    await table.record(
        [Record(lease=one.lease, closed=None, decision=end) for one, end in zip(held, ends, strict=True)]
    )
    await all_turns(batches_over(engine).finish_rested)

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
    [batch] = await BatchTable(engine).validating()

    turn = Slice(time.monotonic)
    turn.begin()
    await batches._store(batch, turn)  # noqa: SLF001 - what ran before the crash
    await all_turns(batches.start_new)

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

    await all_turns(batches_over(engine).start_new)

    batch = await found(engine, batch_id)
    assert (batch.status, batch.errors[0]["code"]) == ("failed", code)
    assert batch.jobs_by_state == {}


class OddWords(Words):
    """A vocabulary with a bug that one schema meets."""

    def schema_complaint(self, schema: JsonObject) -> str | None:
        raise OverflowError(schema)


class StricterWords(Words):
    """A vocabulary that takes a schema when the file is checked and refuses it when the jobs are stored."""

    def __init__(self) -> None:
        self.has_checked = False

    def schema_complaint(self, schema: JsonObject) -> str | None:
        complaint = "It is refused now." if self.has_checked else None
        self.has_checked = True
        return complaint


def line_with(custom_id: str, **changes: object) -> bytes:
    return orjson.dumps(orjson.loads(line(custom_id)) | changes)


def contracted(custom_id: str) -> bytes:
    contract = {"schema": {"pattern": "a{99999999999999999999}"}}
    return line_with(custom_id, body=body(custom_id, output_contract=contract))


async def test_a_line_that_meets_a_bug_fails_its_batch_and_nobody_elses(engine: AsyncEngine) -> None:
    odd = await uploaded(engine, line("fine"), contracted("odd"), tenant=(a := await a_tenant(engine)))
    other = await uploaded(engine, line("b"), tenant=(b := await a_tenant(engine)))

    await all_turns(batches_over(engine, OddWords()).start_new)

    [error] = (batch := await found(engine, odd, a)).errors
    assert (batch.status, error["code"], error["line"]) == ("failed", "internal_error", 2)
    assert (await found(engine, other, b)).status == "in_progress"


async def test_a_line_that_is_refused_when_it_is_stored_fails_its_batch(engine: AsyncEngine) -> None:
    batch_id = await uploaded(engine, line("fine"), contracted("odd"), tenant=(a := await a_tenant(engine)))

    await all_turns(batches_over(engine, StricterWords()).start_new)

    batch = await found(engine, batch_id, a)
    assert batch.status == "failed"
    assert [error["line"] for error in batch.errors] == [2]


async def test_a_line_that_postgres_refuses_is_named_by_its_batch(engine: AsyncEngine) -> None:
    """A model of random characters that no index row can hold stands for whatever a door lets through."""
    long = "".join(uuid.uuid4().hex for _ in range(500))
    lines = line("fine"), line_with("odd", body=body("x", model=long)), line("late")
    odd = await uploaded(engine, *lines, tenant=(a := await a_tenant(engine)))
    other = await uploaded(engine, line("b"), tenant=(b := await a_tenant(engine)))

    await all_turns(batches_over(engine).start_new)

    batch = await found(engine, odd, a)
    assert (batch.status, batch.errors[0]["line"]) == ("failed", 2)
    assert long not in str(batch.errors)
    assert (await found(engine, other, b)).status == "in_progress"


async def test_one_line_of_b_starts_while_a_has_a_hundred_huge_files(engine: AsyncEngine) -> None:
    a, b = await a_tenant(engine), await a_tenant(engine)
    empty = await stored_file(engine, a, *([b""] * 90_000))
    full = await stored_file(engine, a, *(line_with(f"c{n}", body=body("x" * 2_000)) for n in range(20_000)))
    huge = [await created(engine, empty if n % 2 else full, a) for n in range(100)]
    batches = batches_over(engine)
    for _ in range(3):
        await batches.start_new()

    own, started_at = await uploaded(engine, line("b"), tenant=b), time.monotonic()
    while (await found(engine, own, b)).status != "in_progress":
        assert time.monotonic() - started_at < 2
        assert await batches.start_new()

    assert (await found(engine, huge[-1], a)).status == "validating"
    await batches.aclose()
    for batch_id in huge:
        await BatchTable(engine).refuse(batch_id, [])


class CountingJobs(JobTable):
    """The stored jobs, and how many lists each insert had in memory."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine, holder="upkeep", lease_seconds=30)
        self.lists: list[int] = []

    async def insert(self, jobs: Sequence[NewJob], *, held: bool = False) -> list[Submission]:
        self.lists.append(sum(len(job.body["extra"]) for job in jobs))
        return await super().insert(jobs, held=held)


async def test_a_dense_file_is_held_in_memory_a_slice_at_a_time(engine: AsyncEngine) -> None:
    """Each parsed list takes twenty-five times its text; a file of 200 MB would be 5 GB."""
    a, jobs = await a_tenant(engine), CountingJobs(engine)
    dense = [line_with(f"c{n}", body=body("x", extra=[[]] * 20_000)) for n in range(20)]
    batch_id = await uploaded(engine, *dense, tenant=a)
    standing_still = Batches(
        BatchTable(engine),
        FileTable(engine),
        jobs,
        Words(),
        now=lambda: datetime.now(UTC),
        new_job_id=new_job_id,
        clock=lambda: 0.0,
    )

    await all_turns(standing_still.start_new)

    assert (await found(engine, batch_id, a)).status == "in_progress"
    assert sum(jobs.lists) == 20 * 20_000
    assert max(jobs.lists) <= SLICE_NODES


async def test_a_file_of_empty_lines_is_read_to_a_bound(engine: AsyncEngine) -> None:
    a = await a_tenant(engine)
    batch_id = await uploaded(engine, *([b""] * (MAX_FILE_LINES + 2)), line("a"), tenant=a)

    await all_turns(batches_over(engine).start_new)

    assert (await found(engine, batch_id, a)).errors[0]["code"] == "too_many_requests"


async def test_a_cancelled_batch_is_read_no_further(engine: AsyncEngine) -> None:
    a, batches = await a_tenant(engine), batches_over(engine)
    batch_id = await uploaded(engine, *([b""] * 90_000), line("a"), tenant=a)
    await batches.start_new()

    await BatchTable(engine).cancel(batch_id, a)
    await all_turns(batches.start_new)

    assert (await found(engine, batch_id, a)).total == 0


async def test_replies_are_written_as_they_are_stored(engine: AsyncEngine) -> None:
    """Half a character, digits beyond 64 bits and a line end between values: JSON that a parser would change."""
    reply = '{"id": "c",\n "half": "\\ud83d", "nul": "\\u0000", "digits": 123456789012345678901234567890}'
    a = await a_tenant(engine)
    batch_id = await uploaded(engine, line("a"), line("b"), tenant=a)
    await all_turns(batches_over(engine).start_new)
    async with transaction(engine) as connection:
        await connection.execute(
            text("UPDATE jobs SET state = 'completed' WHERE batch_id = :id RETURNING id"), {"id": batch_id}
        )
        await connection.execute(
            text(
                "INSERT INTO job_results (job_id, reply) SELECT id, CAST(:reply AS json) FROM jobs WHERE batch_id = :id"
            ),
            {"id": batch_id, "reply": reply},
        )

    await all_turns(batches_over(engine).finish_rested)

    batch = await found(engine, batch_id, a)
    assert batch.output_file_id is not None
    lines = [one async for one in FileTable(engine).lines(batch.output_file_id)]
    assert len(lines) == 2
    assert all(json.loads(one)["response"]["body"] == json.loads(reply) for one in lines)
