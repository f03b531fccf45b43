"""Stores new jobs, publishes urgent ones, and runs synchronous calls.

Durability begins with the commit. After a failed publish, dispatch publishes the row.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

import structlog

from schemas.accepted import JobResult, Submission
from schemas.admission import TENANT_REASONS, Refusal, RefusalReason
from schemas.decision import Complete, DeadLetter
from schemas.errors import QuotaReached, RedisUnavailable, ShareUsedUp, Unavailable
from schemas.ids import FileId, JobId, TenantId
from schemas.job import LeasedJob, NewJob, Published
from schemas.lanes import PUBLISHED_BY_INTAKE, Lane
from schemas.money import ZERO
from schemas.outcome import Failed, NotAdmitted, NotAllowed, Outcome
from schemas.states import JobState
from schemas.tenants import EVERY_LANE
from storage.batches.batches import BatchTable, NewBatch, StoredBatch
from tasks.batches.terms import checked_endpoint, stop_loss, window_seconds
from tasks.dispatch.refill import Outlet
from tasks.execution.deps import Deps, OnChunk
from tasks.execution.pipeline import live
from tasks.intake.call_places import CallPlaces
from tasks.intake.result_delivery import Ends
from tasks.intake.urgent_allowances import Allowances
from tasks.requests.new_ids import new_batch_id
from tasks.tenancy.quotas import Quotas

log = structlog.get_logger()

PATIENCE_SECONDS = 30.0
"""Wait of a synchronous caller: below the minute after which proxies hang up."""

SILENT_SECONDS = 5.0
"""Leaves urgent jobs to dispatch after a failed publish: each failure takes six seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantLimits:
    """Holds per-process limits on each tenant."""

    quotas: Quotas
    allowances: Allowances
    places: CallPlaces
    leave_to_dispatch: Callable[[Sequence[JobId]], Awaitable[None]]


USED_UP = "The share of this tenant is used up."


class JobRows(Protocol):
    """Writes jobs."""

    async def insert(self, jobs: Sequence[NewJob]) -> Sequence[Submission]:
        """Store jobs, idempotently by (tenant, key). Raises IdempotencyConflict."""

    async def insert_running(self, job: NewJob) -> LeasedJob | Submission:
        """Store a running job, or return the job with its idempotency key."""

    async def named_by_key(self, job: NewJob) -> Submission | None:
        """Find the job with this idempotency key. Raises IdempotencyConflict."""

    async def mark_dispatched(self, job_ids: Sequence[JobId]) -> None:
        """Mark jobs as published."""

    async def cancel(self, job_id: JobId, tenant_id: TenantId | None) -> bool:
        """Cancel a job; False where none is left to cancel."""


@dataclass
class Intake:
    """Accepts jobs from HTTP, Celery and batches. `check` raises InvalidRequest for a job that could never run."""

    jobs: JobRows
    ends: Ends
    batches: BatchTable
    outlet: Outlet
    deps: Deps
    limits: TenantLimits
    check: Callable[[NewJob], None] = lambda _: None
    _publish_again_at: float = float("-inf")

    async def submit(self, job: NewJob) -> Submission:
        """Store a job and publish it if urgent. Idempotent by its key. Raises QuotaReached.

        Dispatch publishes a tenant's further urgent jobs.
        """
        self.check(job)
        try:
            await self.limits.quotas.take_job(job)
        except QuotaReached:
            known = await self.jobs.named_by_key(job)
            if known is None:
                raise
            return known
        [accepted] = await self.jobs.insert([job])
        if accepted.lane in PUBLISHED_BY_INTAKE and not accepted.repeated and self._may_publish():
            await self._publish_in_turn(accepted, job.tenant_id)
        return accepted

    async def cancel(self, job_id: JobId, tenant_id: TenantId | None) -> bool:
        """Cancel a non-terminal job; its cost stays booked."""
        return await self.jobs.cancel(job_id, tenant_id)

    async def complete(self, job: NewJob, on_chunk: OnChunk | None = None) -> JobResult:
        """Run a job in this process, and wait for its end. Raises ShareUsedUp and QuotaReached.

        A job that must wait longer than its caller is cancelled. A stored job needs neither place nor quota.
        """
        self.check(job)
        began = time.monotonic()
        async with AsyncExitStack() as call:
            try:
                await self.limits.quotas.take_job(job)
                if not self.limits.places.has_place(job.tenant_id):
                    known = await self.jobs.named_by_key(job)
                    if known is not None:
                        return await self._known(known)
                await call.enter_async_context(self.limits.places.held(job.tenant_id, PATIENCE_SECONDS))
            except ShareUsedUp:
                known = await self.jobs.named_by_key(job)
                if known is None:
                    raise
                return await self._known(known)
            return await self._complete(job, on_chunk, max(0.0, PATIENCE_SECONDS - (time.monotonic() - began)))

    async def _complete(self, job: NewJob, on_chunk: OnChunk | None, patience_seconds: float) -> JobResult:
        held = await self.jobs.insert_running(job)
        if isinstance(held, Submission):
            return await self._known(held)
        async with self.deps.jobs.renewing(held.lease):
            end = await live(held, self.deps, on_chunk, patience_seconds)
        if not isinstance(end.decision, Complete | DeadLetter):
            await self.jobs.cancel(job.id, job.tenant_id)
        result = await self.ends.rested(job.id)
        return _with_cause(result or _unfinished(job.id, job.lane), end.outcome, end.waited_ms)

    async def create_batch(
        self,
        tenant_id: TenantId,
        input_file_id: FileId,
        *,
        endpoint: str,
        completion_window: str,
        metadata: dict[str, str] | None,
        lane: Lane,
        lanes: frozenset[Lane] | None = None,
    ) -> StoredBatch:
        """Store a batch for upkeep to read. Raises InvalidRequest and QuotaReached.

        Its lines may name `lanes`; None: its tenant's.
        """
        await self.limits.quotas.take_batch(tenant_id)
        batch = NewBatch(
            id=new_batch_id(),
            tenant_id=tenant_id,
            endpoint=checked_endpoint(endpoint),
            lane=lane,
            completion_window=completion_window,
            window_seconds=window_seconds(completion_window),
            input_file_id=input_file_id,
            metadata=metadata,
            stop_loss=stop_loss(metadata),
            lanes=EVERY_LANE if lanes is None else lanes,
        )
        return await self.batches.create(batch)

    def _may_publish(self) -> bool:
        return time.monotonic() >= self._publish_again_at

    async def _publish_in_turn(self, accepted: Submission, tenant_id: TenantId) -> None:
        try:
            if await self.limits.allowances.take(tenant_id, accepted.lane):
                await self._publish(accepted)
            else:
                await self.limits.leave_to_dispatch([accepted.job_id])
        except Unavailable as error:
            log.warning("publish_left_to_dispatch", job_id=accepted.job_id, lane=accepted.lane, reason=error.message)
        except Exception:  # the job is stored, so a bug here must not make the call fail
            log.exception("publish_left_to_dispatch", job_id=accepted.job_id, lane=accepted.lane)

    async def _publish(self, accepted: Submission) -> None:
        try:
            await self.outlet.publish(accepted.lane, [Published(accepted.job_id, accepted.generation)])
        except RedisUnavailable:
            self._publish_again_at = time.monotonic() + SILENT_SECONDS
            log.warning("publish_failed", job_id=accepted.job_id, lane=accepted.lane)
            return
        await self.jobs.mark_dispatched([accepted.job_id])

    async def _known(self, accepted: Submission) -> JobResult:
        result = await self.ends.rested(accepted.job_id)
        return result or _unfinished(accepted.job_id, accepted.lane)


def _unfinished(job_id: JobId, lane: Lane) -> JobResult:
    return JobResult(job_id=job_id, state=JobState.RUNNING, lane=lane, message="This job has not finished yet.")


def _with_cause(result: JobResult, outcome: Outcome, waited_ms: int) -> JobResult:
    match outcome:
        case NotAdmitted(reason=why):
            message = USED_UP if why in TENANT_REASONS else "A limit is exhausted."
            return replace(result, wait_ms=waited_ms, dead_reason=why.value, message=message)
        case Failed(trouble=trouble) if result.state is JobState.CANCELLED:
            return replace(result, wait_ms=waited_ms, dead_reason=trouble.kind.value, message=trouble.message)
        case NotAllowed(refusal=refusal):
            message = result.message or _sentence(refusal)
            return replace(result, wait_ms=waited_ms, dead_reason=refusal.reason.value, message=message)
        case _:
            return replace(result, wait_ms=waited_ms, cost_nano_usd=result.cost_nano_usd or ZERO)


def _sentence(refusal: Refusal) -> str:
    match refusal.reason:
        case RefusalReason.BUDGET:
            return f"The budget {refusal.scope} is spent." if refusal.scope else "A budget is spent."
        case RefusalReason.PACE:
            return f"The budget {refusal.scope} is ahead of its pace; it has room in {_minutes(refusal.opens_in_ms)}."
        case RefusalReason.TOO_MANY_BUDGETS:
            return refusal.scope or "Too many budgets count this request."
        case RefusalReason.ACCOUNT_STOPPED:
            return "The account at the provider is stopped until an operator opens it again."
        case RefusalReason.NOT_READY | RefusalReason.STALE_EPOCH | RefusalReason.STALE_WINDOW:
            return "Redis cannot be reached, or the ledger is being rebuilt; try again in a few seconds."
        case RefusalReason.TOO_LARGE:
            return "The request is larger than the limit of its model can ever hold."
        case RefusalReason.TENANT_TOO_LARGE:
            return "The request is larger than tokens_per_minute of its tenant."
        case RefusalReason.UNKNOWN_PRICE:
            return "A budget counts this request and the price of its model is not known."
        case RefusalReason.UNKNOWN_MODEL:
            return "The model is not configured any more."
        case _:
            assert_never(refusal.reason)


def _minutes(milliseconds: int) -> str:
    minutes = -(-milliseconds // 60_000)
    return f"{minutes} minutes" if minutes > 1 else "a minute"
