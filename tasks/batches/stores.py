"""Defines the protocols through which intake, batches and upkeep reach storage.

`tasks.wiring` supplies the implementations.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from schemas.accepted import JobResult, Submission
from schemas.ids import BatchId, FileId, JobId, TenantId
from schemas.job import LeasedJob, NewJob
from schemas.lanes import Lane
from schemas.stop_loss import NO_STOP_LOSS, StopLoss
from storage.batches.batches import StoredBatch
from tasks.batches.lines import BatchTerms, LineError, RestedJob
from tasks.dispatch.publisher import Published


class JobRows(Protocol):
    """Writes jobs."""

    async def insert(self, jobs: Sequence[NewJob]) -> Sequence[Submission]:
        """Store jobs in one transaction, idempotently by (tenant, key). Raises IdempotencyConflict."""

    async def insert_running(self, job: NewJob) -> LeasedJob | Submission:
        """Store a job as running in this process, or return the job with its idempotency key."""

    async def named_by_key(self, job: NewJob) -> Submission | None:
        """The stored job with this one's idempotency key, if any. Raises IdempotencyConflict."""

    async def mark_dispatched(self, jobs: Sequence[Published]) -> None:
        """Mark these as published."""

    async def cancel(self, job_id: JobId, tenant_id: TenantId | None) -> bool:
        """Cancel a job that is not terminal; False where there is none."""

    async def rested(self, job_id: JobId) -> JobResult | None:
        """A job's result; None while it is not terminal."""


class BatchJobs(Protocol):
    """Writes the jobs of batches."""

    async def insert(self, jobs: Sequence[NewJob]) -> Sequence[Submission]:
        """Store jobs in one transaction, idempotently by (tenant, key). Raises IdempotencyConflict."""

    async def insert_held(self, jobs: Sequence[NewJob]) -> Sequence[Submission]:
        """Like `insert`, for jobs that wait for the canary of their batch."""


class NewBatches(Protocol):
    """Writes batches."""

    async def create(
        self,
        batch_id: BatchId,
        tenant_id: TenantId,
        *,
        endpoint: str,
        lane: Lane,
        completion_window: str,
        window_seconds: float,
        input_file_id: FileId,
        metadata: dict[str, str] | None,
        stop_loss: StopLoss = NO_STOP_LOSS,
        lanes: frozenset[Lane] | None = None,
    ) -> StoredBatch:
        """Store a batch; upkeep reads its file later."""

    async def cancel(self, batch_id: BatchId, tenant_id: TenantId) -> bool:
        """Stop a batch; False when there is none that can be stopped."""


class BatchRows(Protocol):
    """Reads and writes batches and their files."""

    async def validating(self) -> Sequence[tuple[BatchTerms, FileId]]:
        """Batches with unread files, some of each tenant."""

    def lines(self, file_id: FileId, *, most_bytes: int) -> AsyncIterator[bytes]:
        """The lines of a file without line ends. A line above `most_bytes` is cut to one byte more."""

    async def refuse(self, batch_id: BatchId, errors: Sequence[LineError]) -> None:
        """Set a batch to failed because its file was refused."""

    async def fail(self, batch_id: BatchId, errors: Sequence[LineError]) -> None:
        """Set a batch to failed because its result files cannot be written."""

    async def start(self, batch_id: BatchId, total: int) -> None:
        """Set a batch to in_progress with its number of requests."""

    async def all_at_rest(self) -> Sequence[BatchTerms]:
        """Batches in progress (or being cancelled) with only terminal jobs."""

    def rested_jobs(self, batch_id: BatchId, *, completed: bool) -> AsyncIterator[RestedJob]:
        """The terminal jobs of a batch: the completed ones, or all others."""

    async def write_file(self, terms: BatchTerms, name: str, lines: AsyncIterator[bytes]) -> FileId | None:
        """Store an output file; None where there are no lines."""

    async def finish(self, batch_id: BatchId, output: FileId | None, errors: FileId | None) -> None:
        """Set a batch to completed, expired or cancelled with its files."""
