"""Stores results that Celery callers await, delivered at least once."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.ids import JobId
from storage.database.mapping import read_as
from storage.database.statements import PostgresTable

MOST_PER_ROUND = 500

EXPECT = """
INSERT INTO pending_results (task_id, job_id, reply_to) VALUES (:task_id, :job_id, :reply_to)
ON CONFLICT (task_id) DO NOTHING
RETURNING task_id
"""

PROMISED = """
SELECT job_id FROM pending_results WHERE task_id = ANY(CAST(:task_ids AS text[])) AND delivered_at IS NULL
"""

READY = """
SELECT task_id, job_id, reply_to FROM pending_results WHERE ready AND delivered_at IS NULL
ORDER BY job_id LIMIT :most
"""

NOTICE_RESTED = """
WITH rested AS (
    SELECT p.task_id FROM pending_results p JOIN jobs j ON j.id = p.job_id
    WHERE NOT p.ready AND p.delivered_at IS NULL AND j.state IN ('completed', 'dead', 'expired', 'cancelled')
    LIMIT :most FOR UPDATE OF p SKIP LOCKED
)
UPDATE pending_results p SET ready = true FROM rested r WHERE p.task_id = r.task_id
RETURNING p.task_id
"""

DELIVERED = """
UPDATE pending_results SET delivered_at = clock_timestamp()
WHERE task_id = ANY(CAST(:task_ids AS text[])) AND delivered_at IS NULL
RETURNING task_id
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """Holds a job's result, awaited under a Celery task id."""

    task_id: str
    job_id: JobId
    reply_to: str | None


class DeliveryTable(PostgresTable):
    """Stores pending results. Call `delivered` after delivery: a second delivery is harmless."""

    async def expect(self, task_id: str, job_id: JobId, reply_to: str | None = None) -> bool:
        """Register a task id; False when it was registered before."""
        return bool(await self._fetch_once(EXPECT, task_id=task_id, job_id=job_id, reply_to=reply_to))

    async def promised(self, task_ids: Sequence[str]) -> list[JobId]:
        """List jobs that these task ids still await."""
        return [JobId(row["job_id"]) for row in await self._fetch_once(PROMISED, task_ids=list(task_ids))]

    async def ready(self, most: int = MOST_PER_ROUND) -> list[Delivery]:
        """List undelivered results of terminal jobs."""
        rows = await self._fetch_once(READY, most=most)
        return [read_as(Delivery, row) for row in rows]

    async def notice_rested(self) -> int:
        """Make results ready that missed the end of their job.

        Their registration committed meanwhile, or the job was cancelled.
        """
        return len(await self._fetch_once(NOTICE_RESTED, most=MOST_PER_ROUND))

    async def delivered(self, task_ids: Sequence[str]) -> int:
        """Mark results as delivered."""
        return len(await self._fetch_once(DELIVERED, task_ids=list(task_ids)))
