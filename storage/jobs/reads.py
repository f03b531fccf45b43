"""Reads jobs, their attempts and queue depths."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.accepted import JobResult
from schemas.ids import BatchId, JobId, TenantId
from schemas.job import Target
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.money import NanoUsd
from schemas.states import JobState
from storage.batches.progress import BatchSummary, summary_of
from storage.database.listings import NEWEST_FIRST, ListedTable, page
from storage.database.mapping import read_as, values_of
from storage.database.statements import Row, fetch
from storage.jobs.attempt_reads import AttemptView, StoryError, errors_of

JOBS = f"""
SELECT * FROM jobs
WHERE tenant_id = :tenant_id
  AND (CAST(:state AS text) IS NULL OR state = :state)
  AND (CAST(:state AS text) IS DISTINCT FROM 'running' OR lease_until IS NOT NULL)
  AND (CAST(:lane AS text) IS NULL OR lane = :lane)
  AND (CAST(:batch_id AS text) IS NULL OR batch_id = :batch_id) {NEWEST_FIRST}
"""  # noqa: S608 - a constant
"""The condition on leases lets the listing use their index."""

JOBS_CURSOR = "SELECT created_at AS at FROM jobs WHERE id = :after AND tenant_id = :tenant_id"
JOB = """
SELECT j.*, b.body, r.reply, r.output, r.served_by
FROM jobs j JOIN job_bodies b ON b.job_id = j.id LEFT JOIN job_results r ON r.job_id = j.id
WHERE j.id = :id AND j.tenant_id = :tenant_id
"""
ATTEMPTS = """
SELECT a.id, a.account, a.model, a.state, a.outcome, a.cost_nano_usd, a.reserved_nano_usd, a.usage, a.request,
    CASE WHEN a.reply IS NULL AND a.outcome = 'valid' AND a.fence = j.fence THEN r.reply ELSE a.reply END AS reply,
    a.error, a.recovery, a.complaint, a.provider_request_id, a.latency_ms, a.opened_at, a.closed_at
FROM attempts a JOIN jobs j ON j.id = a.job_id LEFT JOIN job_results r ON r.job_id = a.job_id
WHERE a.job_id = :id ORDER BY a.opened_at, a.id
"""
RESTED = """
SELECT j.id AS job_id, j.state, j.lane, j.dead_reason, j.message, j.spent_nano_usd AS cost_nano_usd,
    r.reply, r.served_by
FROM jobs j LEFT JOIN job_results r ON r.job_id = j.id
WHERE j.id = :id AND j.state IN ('completed', 'dead', 'expired', 'cancelled')
"""
DEPTHS = """
SELECT lane, state, count(*) AS jobs FROM jobs WHERE state IN ('queued', 'running', 'waiting') GROUP BY lane, state
"""
ANSWER_TOKENS = """
SELECT account, model, avg((usage ->> 'output_tokens')::bigint)::float AS tokens
FROM (SELECT account, model, usage FROM attempts ORDER BY id DESC LIMIT :most) latest
WHERE usage IS NOT NULL GROUP BY account, model
"""
"""Ids of attempts are in order of creation."""

LATEST_ATTEMPTS = 2_000
"""Enough for a mean of each model, in a few milliseconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobSummary:
    """Holds what every listing of jobs shows."""

    id: JobId
    tenant_id: TenantId
    batch_id: BatchId | None
    custom_id: str | None
    lane: Lane
    model: str
    tries: int
    message: str | None
    spent_nano_usd: NanoUsd
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class JobView(JobSummary):
    """Shows a job in a listing, without bodies."""

    state: JobState
    deaths: int
    wait_reason: str | None
    wake_at: datetime | None
    expires_at: datetime
    dead_reason: str | None
    rested_at: datetime | None
    budget_steps: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class JobStory:
    """Shows everything about a job; for a dead one, its dead letter."""

    job: JobView
    body: JsonObject
    reply: JsonObject | None
    output: Any
    served_by: str | None
    attempts: tuple[AttemptView, ...]

    @property
    def first_error(self) -> StoryError | None:
        """Return the first error over all lives of the job."""
        return next(errors_of(self.attempts), None)

    @property
    def last_error(self) -> StoryError | None:
        """Return the last error."""
        return next(errors_of(self.attempts[::-1]), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFilter:
    """Filters a listing; None is any. `after` is the cursor."""

    state: JobState | None = None
    lane: Lane | None = None
    batch_id: BatchId | None = None
    after: JobId | None = None
    most: int = 100


class Reads(ListedTable):
    """Reads jobs in short transactions."""

    async def jobs(self, tenant_id: TenantId, job_filter: JobFilter) -> Sequence[JobView]:
        """List jobs, newest first. Raises NotFound for an unknown cursor."""
        async with self._listings.transaction(tenant_id) as connection:
            rows = await page(connection, JOBS, JOBS_CURSOR, **values_of(job_filter), tenant_id=tenant_id)
        return [_job_view(row) for row in rows]

    async def story(self, job_id: JobId, tenant_id: TenantId) -> JobStory | None:
        """Read a job of this tenant with its attempts, oldest first."""
        async with self._transaction() as connection:
            rows = await fetch(connection, JOB, {"id": job_id, "tenant_id": tenant_id})
            if not rows:
                return None
            attempts = [read_as(AttemptView, row) for row in await fetch(connection, ATTEMPTS, {"id": job_id})]
        return read_as(JobStory, rows[0], job=_job_view(rows[0]), attempts=tuple(attempts))

    async def rested(self, job_id: JobId) -> JobResult | None:
        """Read the job's result; None while it is not terminal."""
        rows = await self._fetch_once(RESTED, id=job_id)
        return read_as(JobResult, rows[0], wait_ms=0) if rows else None

    async def summary(self, batch_id: BatchId, tenant_id: TenantId) -> BatchSummary:
        """Count the progress of a batch."""
        async with self._listings.transaction(tenant_id) as connection:
            return await summary_of(connection, batch_id, tenant_id)

    async def depths(self) -> dict[tuple[Lane, JobState], int]:
        """Count non-terminal jobs."""
        rows = await self._fetch_once(DEPTHS)
        return {(Lane(row["lane"]), JobState(row["state"])): row["jobs"] for row in rows}

    async def answer_tokens(self, most: int = LATEST_ATTEMPTS) -> dict[Target, float]:
        """Average the output tokens of the latest answers."""
        rows = await self._fetch_once(ANSWER_TOKENS, most=most)
        return {Target(account=row["account"], model=row["model"]): row["tokens"] for row in rows}


def _job_view(row: Row) -> JobView:
    is_waiting = row["state"] == JobState.WAITING  # else the reason is kept for its ticket
    return read_as(JobView, row, wait_reason=row["wait_reason"] if is_waiting else None)
