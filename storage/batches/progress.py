"""Counts the progress of a batch over its jobs and attempts."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import BatchId, TenantId
from storage.database.statements import fetch

_COUNTED = """
SELECT {column} AS name, count(*) AS number FROM {rows}
WHERE j.batch_id = :batch_id AND j.tenant_id = :tenant_id AND {which} GROUP BY 1
"""
_JOBS, _ATTEMPTS = "jobs j", "jobs j JOIN attempts a ON a.job_id = j.id"

LANES = _COUNTED.format(column="j.lane", rows=_JOBS, which="j.state IN ('queued', 'running', 'waiting')")
DEAD = _COUNTED.format(column="j.dead_reason", rows=_JOBS, which="j.state = 'dead'")
ATTEMPTS = _COUNTED.format(column="a.outcome", rows=_ATTEMPTS, which="a.outcome IS NOT NULL")
RECOVERIES = _COUNTED.format(column="a.recovery", rows=_ATTEMPTS, which="a.recovery <> 'direct'")
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
