"""A batch runs its canary, holds, goes on in rounds, and stops itself with a reason, on a real Postgres."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.store.sample_jobs import closed, opened
from schemas.decision import Complete, DeadLetter, DeadReason
from schemas.ids import BatchId, FileId, TenantId
from schemas.job import CHAT_COMPLETIONS
from schemas.jsons import JsonObject
from schemas.money import NanoUsd
from schemas.reply import Reply
from schemas.states import JobState
from schemas.stop_loss import Phase, StopLoss
from storage.batches.batches import BatchTable, StoredBatch
from storage.batches.files import FileTable
from storage.batches.stop_losses import StopLossTable
from storage.jobs.record import Record
from storage.jobs.writes import JobTable
from storage.queue.backlog import BacklogTable
from tasks.batches.process import Batches
from tasks.batches.stop_loss import StopLosses
from tasks.dispatch.refill import dispatch
from tasks.maintenance.items import Isolation
from tasks.requests.new_ids import new_file_id, new_job_id
from tests.support.outlet import Open, Shares, Wire
from tests.support.sample_batches import new_batch

TENANT = TenantId("default")
REPLY = Reply(body={"id": "c"}, text="", finish_reason="stop", refusal=None, usage=None, model="m")
CAP = NanoUsd(100)
DEAD = DeadLetter(reason=DeadReason.REFUSED, message="no")


class Words:
    def chain(self, model: str) -> object:
        return ()

    def schema_complaint(self, schema: JsonObject) -> str | None:
        return None


class Yard:
    """One batch of ten, and hands that run what is published of it."""

    def __init__(self, engine: AsyncEngine, batch_id: BatchId) -> None:
        self.batch_id = batch_id
        self._engine = engine
        self._table = JobTable(engine, holder="w", lease_seconds=30)
        self.batches = Batches(
            BatchTable(engine),
            FileTable(engine),
            self._table,
            Words(),
            now=lambda: datetime.now(UTC),
            new_job_id=new_job_id,
        )
        self.watcher = StopLosses(StopLossTable(engine))

    @classmethod
    async def of(cls, engine: AsyncEngine, terms: StopLoss) -> "Yard":
        async def parts() -> AsyncIterator[bytes]:
            for number in range(10):
                body = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}
                line = {"custom_id": f"c{number}", "method": "POST", "url": CHAT_COMPLETIONS, "body": body}
                yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)

        file = await FileTable(engine).write(new_file_id(), TENANT, parts(), filename="in.jsonl", purpose="batch")
        batch = await BatchTable(engine).create(new_batch(TENANT, input_file_id=file.id, stop_loss=terms))
        yard = cls(engine, batch.id)
        while await yard.batches.start_new():
            pass
        return yard

    async def run(self, *, fail: int = 0, cost: int = 10) -> int:
        """Run everything of it that is published; the first of them fail."""
        wire = Wire()
        await dispatch(
            BacklogTable(self._engine), wire, Open(5_000), Shares(), slice_size=32, isolation=Isolation("dispatch")
        )
        holds = await self._table.hold([(job.job_id, job.generation) for job in wire.jobs])
        held = [one for one in holds if one is not None and one.job.batch_id == self.batch_id]
        if not held:
            return 0
        attempts = [opened(one.lease) for one in held]
        assert all(await self._table.open(attempts))
        await self._table.record(
            [
                Record(
                    lease=one.lease,
                    closed=closed(attempt, cost=cost),
                    decision=DEAD if number < fail else Complete(reply=REPLY),
                )
                for number, (one, attempt) in enumerate(zip(held, attempts, strict=True))
            ]
        )
        return len(held)

    async def found(self) -> StoredBatch:
        batch = await BatchTable(self._engine).find(self.batch_id, TENANT)
        assert batch is not None
        return batch

    async def lines(self, file_id: FileId | None) -> list[JsonObject]:
        assert file_id is not None
        return [orjson.loads(text) async for text in FileTable(self._engine).lines(file_id)]


async def test_behind_a_canary_everything_is_held_until_somebody_says_go_on(engine: AsyncEngine) -> None:
    yard, table = await Yard.of(engine, StopLoss(canary=3)), StopLossTable(engine)

    first = await yard.run()
    await yard.watcher.look()
    held = await yard.found()
    nothing = await yard.run()
    assert await table.proceed(yard.batch_id, TENANT)
    assert not await table.proceed(yard.batch_id, TenantId("other"))
    rounds = [await table.release(yard.batch_id, None, most=4) for _ in range(3)]
    rest = await yard.run()
    while await yard.batches.finish_rested():
        pass

    assert (first, nothing, rest, rounds) == (3, 0, 7, [4, 3, 0])
    assert (held.phase, held.status, held.projected_nano_usd) == (Phase.HELD, "in_progress", 100)
    assert held.jobs_by_state == {JobState.COMPLETED: 3, JobState.WAITING: 7}
    assert ((await yard.found()).status, (await yard.found()).phase) == ("completed", Phase.WATCHED)


async def test_a_projection_below_the_cap_goes_on_by_itself(engine: AsyncEngine) -> None:
    yard = await Yard.of(engine, StopLoss(canary=3, max_cost_nano_usd=CAP))

    await yard.run()
    await yard.watcher.look()

    assert (await yard.found()).phase is Phase.WATCHED
    assert await yard.run() == 7


async def test_a_batch_that_stops_itself_says_why_in_its_object_and_its_files(engine: AsyncEngine) -> None:
    yard = await Yard.of(engine, StopLoss(canary=4, max_error_rate=0.5))

    await yard.run(fail=3)
    await yard.watcher.look()
    while await yard.batches.finish_rested():
        pass

    batch = await yard.found()
    reason = "3 of 4 requests failed, more than max_error_rate 0.5 allows."
    assert (batch.status, batch.phase, batch.stopped) == ("cancelled", Phase.STOPPED, reason)
    assert [error["message"] for error in batch.errors] == [reason]
    errors = [line["error"] for line in await yard.lines(batch.error_file_id)]
    assert [error["code"] for error in errors].count("refused") == 3
    assert errors.count({"code": "batch_stopped", "message": reason}) == 6
    assert len(await yard.lines(batch.output_file_id)) == 1


async def test_too_dear_a_batch_is_stopped_while_it_is_held(engine: AsyncEngine) -> None:
    yard = await Yard.of(engine, StopLoss(canary=3, max_cost_nano_usd=CAP))

    await yard.run(cost=40)
    await yard.watcher.look()

    assert (await yard.found()).status == "cancelling"
