"""Counts the progress of a batch over its jobs and attempts."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import BatchId, TenantId
from storage.database.statements import fetch

LANES = """
SELECT lane AS name, count(*) AS number FROM jobs
WHERE batch_id = :batch_id AND tenant_id = :tenant_id AND state IN ('queued', 'running', 'waiting') GROUP BY lane
"""
DEAD = """
SELECT dead_reason AS name, count(*) AS number FROM jobs
WHERE batch_id = :batch_id AND tenant_id = :tenant_id AND state = 'dead' GROUP BY dead_reason
"""
ATTEMPTS = """
SELECT a.outcome AS name, count(*) AS number
FROM jobs j JOIN attempts a ON a.job_id = j.id
WHERE j.batch_id = :batch_id AND j.tenant_id = :tenant_id AND a.outcome IS NOT NULL GROUP BY a.outcome
"""
RECOVERIES = """
SELECT a.recovery AS name, count(*) AS number
FROM jobs j JOIN attempts a ON a.job_id = j.id
WHERE j.batch_id = :batch_id AND j.tenant_id = :tenant_id AND a.recovery <> 'direct' GROUP BY a.recovery
"""
REPROMPTED = """
SELECT 'jobs' AS name, count(*) AS number FROM (
    SELECT a.job_id FROM jobs j JOIN attempts a ON a.job_id = j.id
    WHERE j.batch_id = :batch_id AND j.tenant_id = :tenant_id
    GROUP BY a.job_id HAVING min(a.opened_at) FILTER (WHERE a.outcome = 'invalid') < max(a.opened_at)
) asked_again
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchSummary:
    """Counts non-terminal jobs, attempts, replies, dead jobs and reprompted jobs."""

    lanes: Mapping[str, int]
    attempts: Mapping[str, int]
    recoveries: Mapping[str, int]
    dead: Mapping[str, int]
    reprompted: int


async def summary_of(connection: AsyncConnection, batch_id: BatchId, tenant_id: TenantId) -> BatchSummary:
    """Count one batch; all zero for another tenant's."""
    which = {"batch_id": batch_id, "tenant_id": tenant_id}

    async def counted(query: str) -> dict[str, int]:
        return {row["name"]: row["number"] for row in await fetch(connection, query, which)}

    return BatchSummary(
        lanes=await counted(LANES),
        attempts=await counted(ATTEMPTS),
        recoveries=await counted(RECOVERIES),
        dead=await counted(DEAD),
        reprompted=(await counted(REPROMPTED))["jobs"],
    )
