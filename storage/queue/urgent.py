"""Counts a tenant's published urgent jobs, and leaves others to dispatch."""

from collections.abc import Sequence

from schemas.ids import JobId, TenantId
from schemas.lanes import Lane
from storage.database.notify import ring
from storage.database.statements import PostgresTable, run

UNCLAIMED = """
SELECT count(*) AS jobs FROM (
    SELECT 1 FROM jobs
    WHERE state = 'queued' AND dispatched_at IS NOT NULL AND lane = :lane AND tenant_id = :tenant_id
    LIMIT :most
) published
"""

LEAVE = """
UPDATE jobs SET left_to_dispatch = true
WHERE id = ANY(CAST(:id AS text[])) AND state = 'queued' AND dispatched_at IS NULL
"""


class UrgentTable(PostgresTable):
    """Reads unclaimed urgent jobs."""

    async def unclaimed(self, tenant_id: TenantId, lane: Lane, most: int) -> int:
        """Count a tenant's published jobs in a lane, up to `most`."""
        [row] = await self._fetch_once(UNCLAIMED, tenant_id=tenant_id, lane=lane.value, most=most)
        return int(row["jobs"])

    async def leave_to_dispatch(self, jobs: Sequence[JobId]) -> None:
        """Let dispatch publish these, and wake it."""
        async with self._transaction() as connection:
            await run(connection, LEAVE, {"id": list(jobs)})
            await ring(connection)
