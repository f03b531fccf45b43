"""Writes many jobs per statement.

Invariants: every write after `hold` names the fence. A stale fence changes no job, but its cost is booked. Jobs are
locked by id, before attempts, so that writes cannot deadlock.
"""

from collections.abc import Collection, Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.accepted import Submission
from schemas.attempt import OpenedAttempt
from schemas.ids import AttemptId, JobId, TenantId
from schemas.job import Job, Lease, LeasedJob, NewJob
from schemas.lanes import PUBLISHED_BY_INTAKE
from schemas.states import JobState
from storage.database.mapping import values_of
from storage.database.notify import ring
from storage.database.statements import PostgresTable, columns, fetch, unnested
from storage.jobs.claims import HAND_BACK, HOLD, RENEW, SUSPENDED, Claim, fences, leased
from storage.jobs.insert import insert_rows, submitted_before
from storage.jobs.record import Record, record
from storage.rows import accepted_from, job_from, opened_from, opened_parameters

OPENED_WITHIN_SECONDS = 300.0
"""Greatest age of a grant at opening, below the gate's 660 s: an expired reservation without a row is released, and a
later row would be sent without money."""

CURRENT_EPOCH = "SELECT epoch FROM ledger_epoch FOR SHARE"

_OPENED = """
    id text, job_id text, fence bigint, account text, model text, epoch bigint, stamp text, counters text,
    reserved_tokens bigint, reserved_nano_usd bigint, price text, request text, opened_at timestamptz"""

OPEN = f"""
INSERT INTO attempts (id, job_id, fence, account, model, epoch, stamp, counters, reserved_tokens,
    reserved_nano_usd, price, request, state, opened_at)
SELECT g.id, g.job_id, g.fence, g.account, g.model, g.epoch, g.stamp, g.counters::json, g.reserved_tokens,
    g.reserved_nano_usd, g.price::json, g.request::json, 'opened', g.opened_at
FROM {unnested(_OPENED)}
JOIN jobs j ON j.id = g.job_id AND j.fence = g.fence AND j.state = 'running'
WHERE g.epoch = :current_epoch
  AND (g.opened_at > clock_timestamp() - make_interval(secs => :within_seconds)
       OR (SELECT a.id FROM attempts a WHERE a.id = g.id) IS NOT NULL)
ON CONFLICT (id) DO UPDATE SET fence = EXCLUDED.fence
    WHERE attempts.job_id = EXCLUDED.job_id AND attempts.fence = EXCLUDED.fence AND attempts.state = 'opened'
RETURNING id
"""  # noqa: S608 - a constant

CANCEL = """
UPDATE jobs SET state = 'cancelled', rested_at = clock_timestamp(), holder = NULL, lease_until = NULL,
    generation = generation + 1, fence = fence + 1
WHERE id = :id AND (CAST(:tenant_id AS text) IS NULL OR tenant_id = :tenant_id)
  AND state IN ('queued', 'running', 'waiting')
RETURNING id
"""

MARK_DISPATCHED = """
WITH published AS (
    SELECT id FROM jobs WHERE id = ANY(CAST(:id AS text[])) AND state = 'queued' ORDER BY id FOR NO KEY UPDATE
)
UPDATE jobs j SET dispatched_at = clock_timestamp() FROM published p WHERE j.id = p.id AND j.state = 'queued'
"""


class JobTable(PostgresTable):
    """Writes many jobs at once; results are in the order of the arguments."""

    def __init__(self, engine: AsyncEngine, *, holder: str, lease_seconds: float) -> None:
        super().__init__(engine)
        self._holder = holder
        self._lease_seconds = lease_seconds

    async def insert(self, jobs: Sequence[NewJob], *, held: bool = False) -> list[Submission]:
        """Store all jobs or, on IdempotencyConflict, none. `held` jobs wait for their batch's canary."""
        state = JobState.WAITING if held else JobState.QUEUED
        async with self._transaction() as connection:
            stored = await insert_rows(connection, jobs, state, holder=None, lease_seconds=0)
            named = await submitted_before(connection, [job for job in jobs if job.id not in stored])
            if any(job.lane not in PUBLISHED_BY_INTAKE for job in jobs):
                await ring(connection)
        return [
            accepted_from(stored[job.id], repeated=False)
            if job.id in stored
            else named[job.tenant_id, job.idempotency_key]
            for job in jobs
        ]

    async def insert_running(self, job: NewJob) -> LeasedJob | Submission:
        """Store a job that runs in this process. Raises IdempotencyConflict."""
        async with self._transaction() as connection:
            stored = await insert_rows(
                connection, [job], JobState.RUNNING, holder=self._holder, lease_seconds=self._lease_seconds
            )
            if job.id not in stored:
                named = await submitted_before(connection, [job])
                return named[job.tenant_id, job.idempotency_key]
        row = stored[job.id]
        given = {"generation": row["generation"], "created_at": row["created_at"]}
        running = Job(**values_of(job), **given, state=JobState.RUNNING, fence=1, tries=0)
        return leased(running, row["lease_until"], self._holder)

    async def named_by_key(self, job: NewJob) -> Submission | None:
        """Find the stored job with this idempotency key. Raises IdempotencyConflict."""
        if job.idempotency_key is None:
            return None
        async with self._transaction() as connection:
            named = await submitted_before(connection, [job])
        return named.get((job.tenant_id, job.idempotency_key))

    async def hold(self, claims: Sequence[Claim | tuple[JobId, int]]) -> list[LeasedJob | None]:
        """Claim jobs by compare-and-set; None where claimed, stale, stopped, expired or terminal.

        Repeating a named claim returns its job under the same lease, renewed.
        """
        named = [Claim(*claim) for claim in claims]
        terms = {"holder": self._holder, "lease_seconds": self._lease_seconds}
        parameters = {
            "id": [claim.job_id for claim in named],
            "generation": [claim.generation for claim in named],
            "claim": [claim.name and f"{self._holder}:{claim.name}" for claim in named],
        }
        async with self._transaction() as connection:
            rows = await fetch(connection, HOLD, parameters | terms)
            # inside the transaction: a row that cannot be read takes its claim back
            held = {row["id"]: leased(job_from(row), row["lease_until"], self._holder) for row in rows}
        return [held.pop(claim.job_id, None) for claim in named]

    async def renew(self, leases: Sequence[Lease]) -> Collection[JobId]:
        """Extend leases; returns the jobs still held."""
        rows = await self._fetch_once(RENEW, **fences(leases), lease_seconds=self._lease_seconds)
        return {JobId(row["id"]) for row in rows}

    async def open(self, attempts: Sequence[OpenedAttempt]) -> list[bool]:
        """Store attempts; False where epoch, fence or grant is too old. Safe to call twice."""
        async with self._transaction() as connection:
            [epoch] = await fetch(connection, CURRENT_EPOCH, {})
            parameters = columns([opened_parameters(attempt) for attempt in attempts])
            terms = {"current_epoch": epoch["epoch"], "within_seconds": OPENED_WITHIN_SECONDS}
            rows = await fetch(connection, OPEN, parameters | terms)
        opened = {AttemptId(row["id"]) for row in rows}
        return [attempt.id in opened for attempt in attempts]

    async def record(self, records: Sequence[Record]) -> list[bool]:
        """Record outcomes; False where the fence was lost."""
        return await record(self._engine, records)

    async def suspended(self, job_id: JobId) -> list[OpenedAttempt]:
        """Read the job's unresolved charges, latest first. Raises PostgresUnavailable."""
        return [opened_from(row) for row in await self._fetch_once(SUSPENDED, job_id=job_id)]

    async def hand_back(self, leases: Sequence[Lease]) -> list[bool]:
        """Give up leases without counting a death; False where lost or synchronous."""
        async with self._transaction() as connection:
            rows = await fetch(connection, HAND_BACK, fences(leases))
            await ring(connection)
        returned = {row["id"] for row in rows}
        return [lease.job_id in returned for lease in leases]

    async def cancel(self, job_id: JobId, tenant_id: TenantId | None) -> bool:
        """Cancel a non-terminal job; a tenant of None is the operator."""
        return bool(await self._fetch_once(CANCEL, id=job_id, tenant_id=tenant_id))

    async def mark_dispatched(self, job_ids: Sequence[JobId]) -> None:
        """Mark jobs as published."""
        await self._run_once(MARK_DISPATCHED, id=list(job_ids))
