"""Stores batches and reads the results of their jobs.

Counts come from an index: a counter in the batch's row would make its jobs wait for each other.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.batch import BatchTerms, RestedJob
from schemas.control import Kind, Subject, Verb
from schemas.ids import BatchId, FileId, TenantId
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.money import NanoUsd
from schemas.states import JobState
from schemas.stop_loss import NO_STOP_LOSS, Phase, StopLoss
from schemas.tenants import EVERY_LANE
from storage.database.engine import dumps
from storage.database.listings import NEWEST_FIRST, ListedTable, page
from storage.database.mapping import read_as, values_of
from storage.database.statements import Row, by_bytes, fetch
from storage.queue.controls import begin

PAGE_JOBS = 500

MOST_AT_ONCE, MOST_OF_TENANT = 16, 2
"""Batches that upkeep works on at once, in all and per tenant. The largest file takes some 5 MB of memory."""

CREATE = """
INSERT INTO batches (id, tenant_id, endpoint, lane, completion_window, window_seconds, input_file_id, status, metadata,
    max_cost_nano_usd, max_error_rate, canary, phase, lanes, expires_at)
VALUES (:id, :tenant_id, :endpoint, :lane, :completion_window, :window_seconds, :input_file_id, 'validating',
    CAST(:metadata AS json), :max_cost_nano_usd, :max_error_rate, :canary, :phase, CAST(:lanes AS text[]),
    clock_timestamp() + make_interval(secs => :window_seconds))
RETURNING *
"""
FIND = "SELECT * FROM batches WHERE id = :id AND tenant_id = :tenant_id"
NEWEST = f"SELECT * FROM batches WHERE tenant_id = :tenant_id {NEWEST_FIRST}"  # noqa: S608 - a constant
NEWEST_CURSOR = "SELECT created_at AS at FROM batches WHERE id = :after AND tenant_id = :tenant_id"
COUNTS = """
SELECT batch_id, state, count(*) AS jobs FROM jobs WHERE batch_id = ANY(CAST(:ids AS text[])) GROUP BY batch_id, state
"""
_FAIR = """
SELECT * FROM (
    SELECT b.*, row_number() OVER (PARTITION BY b.tenant_id ORDER BY b.created_at, b.id) AS place FROM batches b
    WHERE {which}
) fair
WHERE place <= :most_of_tenant ORDER BY place, created_at, id LIMIT :most
"""
VALIDATING = _FAIR.format(which="b.status = 'validating'")
ALL_AT_REST = _FAIR.format(
    which="""b.status IN ('in_progress', 'cancelling')
      AND NOT EXISTS (
        SELECT 1 FROM jobs j WHERE j.batch_id = b.id AND j.state IN ('queued', 'running', 'waiting'))"""
)
FAIL = """
UPDATE batches SET status = 'failed', failed_at = clock_timestamp(), errors = CAST(:errors AS json)
WHERE id = :id AND status = ANY(CAST(:statuses AS text[])) RETURNING id
"""
START = """
UPDATE batches SET status = 'in_progress', in_progress_at = clock_timestamp(), total = :total
WHERE id = :id AND status = 'validating' RETURNING id
"""
FINISH = """
UPDATE batches SET
    status = CASE WHEN status = 'cancelling' THEN 'cancelled'
                  WHEN EXISTS (SELECT 1 FROM jobs j WHERE j.batch_id = batches.id AND j.state = 'expired')
                  THEN 'expired' ELSE 'completed' END,
    cancelled_at = CASE WHEN status = 'cancelling' THEN clock_timestamp() END,
    finalizing_at = COALESCE(finalizing_at, clock_timestamp()),
    completed_at = CASE WHEN status <> 'cancelling' THEN clock_timestamp() END,
    output_file_id = :output, error_file_id = :errors
WHERE id = :id AND status IN ('in_progress', 'cancelling') RETURNING id
"""
CANCEL = """
UPDATE batches SET status = 'cancelling', cancelling_at = clock_timestamp()
WHERE id = :id AND tenant_id = :tenant_id AND status IN ('validating', 'in_progress') RETURNING id
"""
RESTED = """
SELECT id, custom_id, state, dead_reason, message FROM jobs
WHERE batch_id = :id AND id > :after AND (state = 'completed') = :completed
ORDER BY id LIMIT :most
"""
REPLY_BYTES = """
SELECT job_id, octet_length(reply::text) AS bytes FROM job_results WHERE job_id = ANY(CAST(:ids AS text[]))
"""
REPLIES = "SELECT job_id, reply::text AS reply FROM job_results WHERE job_id = ANY(CAST(:ids AS text[]))"


@dataclass(frozen=True, kw_only=True, slots=True)
class NewBatch(BatchTerms):
    """A batch that is not yet stored."""

    completion_window: str
    input_file_id: FileId
    metadata: dict[str, str] | None
    stop_loss: StopLoss = NO_STOP_LOSS


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredBatch(NewBatch):
    """A batch and its number of jobs by state."""

    output_file_id: FileId | None
    error_file_id: FileId | None
    status: str
    errors: list[JsonObject]
    total: int
    created_at: datetime
    moments: dict[str, datetime | None]
    jobs_by_state: dict[JobState, int]
    phase: Phase | None = None
    projected_nano_usd: NanoUsd | None = None
    stopped: str | None = None


_MOMENTS = (
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
    "expires_at",
)


class BatchTable(ListedTable):
    """Changes the status of batches by compare-and-set."""

    async def create(self, batch: NewBatch) -> StoredBatch:
        """Store a batch."""
        terms = {
            "metadata": dumps(batch.metadata),
            "phase": batch.stop_loss.first_phase,
            "lanes": None if batch.lanes == EVERY_LANE else sorted(batch.lanes),
        }
        [row] = await self._fetch_once(CREATE, **values_of(batch) | values_of(batch.stop_loss) | terms)
        return _batch_from(row, {})

    async def find(self, batch_id: BatchId, tenant_id: TenantId) -> StoredBatch | None:
        """Read a batch of this tenant with its counts."""
        async with self._transaction() as connection:
            batches = await _counted(
                connection, await fetch(connection, FIND, {"id": batch_id, "tenant_id": tenant_id})
            )
        return batches[0] if batches else None

    async def newest(self, tenant_id: TenantId, *, after: BatchId | None, most: int) -> Sequence[StoredBatch]:
        """List batches, newest first. Raises NotFound for another tenant's cursor."""
        async with self._listings.transaction(tenant_id) as connection:
            rows = await page(connection, NEWEST, NEWEST_CURSOR, after=after, most=most, tenant_id=tenant_id)
            return await _counted(connection, rows)

    async def validating(self) -> Sequence[StoredBatch]:
        """List a few batches with unread files of each tenant, oldest first."""
        return await self._fair(VALIDATING)

    async def all_at_rest(self) -> Sequence[StoredBatch]:
        """List a few batches per tenant whose jobs are all terminal."""
        return await self._fair(ALL_AT_REST)

    async def refuse(self, batch_id: BatchId, errors: Sequence[JsonObject]) -> bool:
        """Fail a batch for errors in its file, and cancel its jobs."""
        return await self._fail(batch_id, errors, ["validating"])

    async def fail(self, batch_id: BatchId, errors: Sequence[JsonObject]) -> bool:
        """Fail a batch whose result files cannot be written; its jobs stay readable."""
        return await self._fail(batch_id, errors, ["in_progress", "cancelling"])

    async def start(self, batch_id: BatchId, total: int) -> bool:
        """Start a batch after all its jobs are stored."""
        return bool(await self._fetch_once(START, id=batch_id, total=total))

    async def finish(self, batch_id: BatchId, output: FileId | None, errors: FileId | None) -> bool:
        """Set result files and final status; False when another process did."""
        return bool(await self._fetch_once(FINISH, id=batch_id, output=output, errors=errors))

    async def cancel(self, batch_id: BatchId, tenant_id: TenantId) -> bool:
        """Cancel jobs that are not running; upkeep cancels what is left."""
        async with self._transaction() as connection:
            if not await fetch(connection, CANCEL, {"id": batch_id, "tenant_id": tenant_id}):
                return False
            await _cancel_jobs(connection, batch_id)
        return True

    async def rested(self, batch_id: BatchId, *, completed: bool) -> AsyncIterator[RestedJob]:
        """Read completed jobs, or all others, with bounded bytes of replies in memory.

        The caller checks that all jobs are terminal.
        """
        after = ""
        while True:
            page = await self._fetch_once(RESTED, id=batch_id, after=after, completed=completed, most=PAGE_JOBS)
            async for job in self._with_replies(page):
                yield job
            if len(page) < PAGE_JOBS:
                return
            after = page[-1]["id"]

    async def _with_replies(self, page: Sequence[Row]) -> AsyncIterator[RestedJob]:
        rows = {row["id"]: row for row in page}
        sizes = {row["job_id"]: row["bytes"] for row in await self._fetch_once(REPLY_BYTES, ids=list(rows))}
        for ids in by_bytes({name: sizes.get(name, 0) for name in rows}):
            replies = {row["job_id"]: row["reply"] for row in await self._fetch_once(REPLIES, ids=ids)}
            for name in ids:
                yield read_as(RestedJob, rows[name], job_id=name, reply=replies.get(name))

    async def _fair(self, query: str) -> list[StoredBatch]:
        rows = await self._fetch_once(query, most=MOST_AT_ONCE, most_of_tenant=MOST_OF_TENANT)
        return [_batch_from(row, {}) for row in rows]

    async def _fail(self, batch_id: BatchId, errors: Sequence[JsonObject], statuses: Sequence[str]) -> bool:
        terms = {"id": batch_id, "errors": dumps(list(errors)), "statuses": list(statuses)}
        async with self._transaction() as connection:
            failed = await fetch(connection, FAIL, terms)
            await _cancel_jobs(connection, batch_id)
        return bool(failed)


async def _counted(connection: AsyncConnection, rows: Sequence[Row]) -> list[StoredBatch]:
    counts = await fetch(connection, COUNTS, {"ids": [row["id"] for row in rows]}) if rows else []
    by_batch: dict[str, dict[JobState, int]] = {row["id"]: {} for row in rows}
    for count in counts:
        by_batch[count["batch_id"]][JobState(count["state"])] = count["jobs"]
    return [_batch_from(row, by_batch[row["id"]]) for row in rows]


async def _cancel_jobs(connection: AsyncConnection, batch_id: BatchId) -> None:
    await begin(connection, Verb.CANCEL, Subject(kind=Kind.BATCH, name=batch_id))


def _batch_from(row: Row, jobs_by_state: dict[JobState, int]) -> StoredBatch:
    return read_as(
        StoredBatch,
        row,
        errors=row["errors"] or [],
        moments={name: row[name] for name in _MOMENTS},
        jobs_by_state=jobs_by_state,
        lanes=EVERY_LANE if row["lanes"] is None else frozenset(map(Lane, row["lanes"])),
        stop_loss=read_as(StopLoss, row),
    )
