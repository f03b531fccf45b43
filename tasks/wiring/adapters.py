"""Adapts the stores to the protocols of intake, dispatch and batches, without decisions of its own."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, replace

from schemas.accepted import JobResult, Submission
from schemas.ids import BatchId, FileId, JobId, TenantId
from schemas.job import Job, LeasedJob, NewJob
from schemas.money import NanoUsd
from schemas.outcome import CACHED, Valid
from schemas.reply import Reply
from schemas.storable import storable_name
from schemas.tenants import TenantShare, no_limits
from storage.batches.batches import BatchTable, StoredBatch
from storage.batches.files import FileTable
from storage.batches.stop_losses import StopLossTable
from storage.jobs.reads import Reads
from storage.jobs.response_cache import AnswerReads
from storage.jobs.writes import JobTable
from storage.queue.backlog import BacklogTable
from tasks.batches.lines import BatchTerms, LineError, RestedJob
from tasks.batches.stop_loss import Watched
from tasks.dispatch.publisher import Published
from tasks.dispatch.refill import Flow
from tasks.requests.new_ids import new_file_id

RESULT_PURPOSE = "batch_output"


class StoredJobs:
    """`tasks.batches.stores.JobRows` over Postgres."""

    def __init__(self, table: JobTable, reads: Reads) -> None:
        self._table = table
        self._reads = reads

    async def insert(self, jobs: Sequence[NewJob]) -> Sequence[Submission]:
        """Store jobs in one transaction."""
        return await self._table.insert(jobs)

    async def insert_held(self, jobs: Sequence[NewJob]) -> Sequence[Submission]:
        """Store jobs that wait for the canary of their batch."""
        return await self._table.insert(jobs, held=True)

    async def insert_running(self, job: NewJob) -> LeasedJob | Submission:
        """Store a job that this process runs itself."""
        return await self._table.insert_running(job)

    async def named_by_key(self, job: NewJob) -> Submission | None:
        """Return the stored job that has the idempotency key of this one."""
        return await self._table.named_by_key(job)

    async def mark_dispatched(self, jobs: Sequence[Published]) -> None:
        """Mark these as published."""
        await self._table.mark_dispatched([job.job_id for job in jobs])

    async def cancel(self, job_id: JobId, tenant_id: TenantId | None) -> bool:
        """Cancel a job that is not terminal."""
        return await self._table.cancel(job_id, tenant_id)

    async def rested(self, job_id: JobId) -> JobResult | None:
        """Return a terminal job's result."""
        return await self._reads.rested(job_id)


class StoredAnswers:
    """`tasks.execution.deps.Answers` over Postgres."""

    def __init__(self, answers: AnswerReads) -> None:
        self._answers = answers

    async def same(self, job: Job) -> Valid | None:
        """Return a cached answer as a reply without usage; None where there is none."""
        found = await self._answers.same(job.tenant_id, job.request_digest)
        if found is None:
            return None
        reply = Reply(
            body=found.reply,
            text=None,
            finish_reason="stop",
            refusal=None,
            usage=None,
            model=storable_name(str(found.reply.get("model", job.model))) or job.model,
        )
        return Valid(reply=reply, output=found.output, recovery=CACHED)


class StoredBacklog:
    """`tasks.dispatch.refill.Backlog` over Postgres."""

    def __init__(self, table: BacklogTable) -> None:
        self._table = table

    async def flows(self) -> Sequence[Flow]:
        """Return the flows with unpublished jobs."""
        return [Flow(lane=flow.lane, model=flow.model, run_ahead=flow.run_ahead) for flow in await self._table.flows()]

    async def take(self, flow: Flow, most: int) -> Sequence[Published]:
        """Mark and return the next jobs of a flow."""
        taken = await self._table.take(flow.lane, flow.model, most)
        return [Published(job_id=job_id, generation=generation) for job_id, generation in taken]

    async def give_back(self, jobs: Sequence[Published]) -> None:
        """Mark these as not published."""
        await self._table.give_back([job.job_id for job in jobs])


class StoredBatches:
    """`tasks.batches.stores.BatchRows` over Postgres."""

    def __init__(
        self, batches: BatchTable, files: FileTable, share_of: Callable[[TenantId], TenantShare] = no_limits
    ) -> None:
        self._batches = batches
        self._files = files
        self._share_of = share_of

    async def validating(self) -> Sequence[tuple[BatchTerms, FileId]]:
        """Return batches whose files have not been read yet."""
        return [(self._read_terms(batch), batch.input_file_id) for batch in await self._batches.validating()]

    def _read_terms(self, batch: StoredBatch) -> BatchTerms:
        """The terms with the lanes that lines may name: those of both the creating key and the tenant."""
        of_tenant = self._share_of(batch.tenant_id).lanes
        return replace(_terms(batch), lanes=of_tenant if batch.lanes is None else of_tenant & batch.lanes)

    def lines(self, file_id: FileId, *, most_bytes: int) -> AsyncIterator[bytes]:
        """Yield the lines of an input file."""
        return self._files.lines(file_id, most_bytes=most_bytes)

    async def refuse(self, batch_id: BatchId, errors: Sequence[LineError]) -> None:
        """Set a batch to failed because its file cannot be accepted."""
        await self._batches.refuse(batch_id, [asdict(error) for error in errors])

    async def fail(self, batch_id: BatchId, errors: Sequence[LineError]) -> None:
        """Set a batch to failed because its result files cannot be written."""
        await self._batches.fail(batch_id, [asdict(error) for error in errors])

    async def start(self, batch_id: BatchId, total: int) -> None:
        """Set a batch to in_progress."""
        await self._batches.start(batch_id, total)

    async def all_at_rest(self) -> Sequence[BatchTerms]:
        """Return batches whose jobs are all terminal."""
        return [_terms(batch) for batch in await self._batches.all_at_rest()]

    async def rested_jobs(self, batch_id: BatchId, *, completed: bool) -> AsyncIterator[RestedJob]:
        """Yield a batch's jobs that completed, or those that ended otherwise."""
        async for row in self._batches.rested(batch_id, completed=completed):
            yield RestedJob(
                job_id=row.job_id,
                custom_id=row.custom_id,
                state=row.state,
                reply=row.reply,
                dead_reason=row.dead_reason,
                message=row.message,
            )

    async def write_file(self, terms: BatchTerms, name: str, lines: AsyncIterator[bytes]) -> FileId | None:
        """Store a result file; without lines, store none and return None."""
        stored = await self._files.write(new_file_id(), terms.tenant_id, lines, filename=name, purpose=RESULT_PURPOSE)
        if stored.bytes:
            return stored.id
        await self._files.delete(stored.id, terms.tenant_id)
        return None

    async def finish(self, batch_id: BatchId, output: FileId | None, errors: FileId | None) -> None:
        """Store the ids of the result files and the final status, at the database's time."""
        await self._batches.finish(batch_id, output, errors)


class WatchedBatches:
    """`tasks.batches.stop_loss.StopLossRows` over Postgres."""

    def __init__(self, table: StopLossTable) -> None:
        self.stop = table.stop
        self.hold = table.hold
        self._table = table

    async def watched(self) -> Sequence[Watched]:
        """Return the batches with stop-losses, with current counts."""
        return [
            Watched(batch_id=batch_id, terms=terms, phase=phase, tally=tally)
            for batch_id, terms, phase, tally in await self._table.watched()
        ]

    async def release(self, batch_id: BatchId, projected: NanoUsd | None) -> int:
        """Release one round of the jobs that waited for the canary; returns how many."""
        return await self._table.release(batch_id, projected)


def _terms(batch: StoredBatch) -> BatchTerms:
    return BatchTerms(
        batch_id=batch.id,
        tenant_id=batch.tenant_id,
        endpoint=batch.endpoint,
        lane=batch.lane,
        window_seconds=batch.window_seconds,
        canary=batch.stop_loss.canary,
        stopped=batch.stopped,
    )
