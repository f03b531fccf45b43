"""Dead letters as operators look at them: one by one, or grouped by what they died of. Nothing is written here.

A page is read per tenant through that tenant's index `jobs_dead`, so that the operator's view over all tenants needs
no index of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.ids import BatchId, JobId, TenantId
from schemas.lanes import Lane
from schemas.money import NanoUsd
from storage.batched import fetch
from storage.engine import transaction
from storage.replay import DeadLetters, conditions
from storage.rows import Row

NEWEST = """
SELECT p.*, (SELECT count(*) FROM attempts a WHERE a.job_id = p.id) AS attempts
FROM (SELECT id FROM tenants WHERE CAST(:tenant_id AS text) IS NULL OR id = :tenant_id) t CROSS JOIN LATERAL (
    SELECT j.id, j.tenant_id, j.batch_id, j.custom_id, j.lane, j.model, j.dead_reason, j.message, j.tries,
        j.spent_nano_usd, j.created_at, j.rested_at
    FROM jobs j LEFT JOIN jobs c ON c.id = CAST(:after AS text)
    WHERE j.tenant_id = t.id AND j.state = 'dead' AND j.discarded_at IS NULL
      AND (CAST(:after AS text) IS NULL
           OR (j.rested_at <= c.rested_at AND (j.rested_at < c.rested_at OR j.id > c.id)))
      AND (CAST(:id AS text) IS NULL OR j.id = :id)
      AND (CAST(:reason AS text) IS NULL OR j.dead_reason = :reason)
      AND (CAST(:batch_id AS text) IS NULL OR j.batch_id = :batch_id)
      AND (CAST(:model AS text) IS NULL OR j.model = :model)
    ORDER BY j.rested_at DESC, j.id LIMIT :most
) p
ORDER BY p.rested_at DESC, p.id LIMIT :most
"""

GROUPS = """
SELECT dead_reason, model, count(*) AS jobs, min(id) AS example, sum(spent_nano_usd)::bigint AS spent_nano_usd
FROM jobs
WHERE state = 'dead' AND discarded_at IS NULL AND (CAST(:tenant_id AS text) IS NULL OR tenant_id = :tenant_id)
GROUP BY dead_reason, model ORDER BY jobs DESC, dead_reason, model
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetterView:
    """A dead letter as a listing shows it; `Reads.story` has the whole of it."""

    id: JobId
    tenant_id: TenantId
    batch_id: BatchId | None
    custom_id: str | None
    lane: Lane
    model: str
    reason: str
    message: str | None
    tries: int
    attempts: int
    spent_nano_usd: NanoUsd
    created_at: datetime
    rested_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetterGroup:
    """Dead letters that died of the same thing; `example` is one of them."""

    reason: str
    model: str
    jobs: int
    example: JobId
    spent_nano_usd: NanoUsd


class DeadLetterReads:
    """Listings of dead letters that were not discarded."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def newest(
        self, which: DeadLetters, *, after: JobId | None = None, most: int = 50
    ) -> Sequence[DeadLetterView]:
        """The latest dead first, from the one after `after` on."""
        rows = await self._rows(NEWEST, conditions(which) | {"after": after, "most": most})
        return [_view(row) for row in rows]

    async def groups(self, tenant_id: TenantId | None = None) -> Sequence[DeadLetterGroup]:
        """What they died of, the most frequent first."""
        return [_group(row) for row in await self._rows(GROUPS, {"tenant_id": tenant_id})]

    async def _rows(self, query: str, parameters: Mapping[str, Any]) -> Sequence[Row]:
        async with transaction(self._engine) as connection:
            return await fetch(connection, query, parameters)


def _view(row: Row) -> DeadLetterView:
    return DeadLetterView(
        id=JobId(row["id"]),
        tenant_id=TenantId(row["tenant_id"]),
        batch_id=row["batch_id"],
        custom_id=row["custom_id"],
        lane=Lane(row["lane"]),
        model=row["model"],
        reason=row["dead_reason"],
        message=row["message"],
        tries=row["tries"],
        attempts=row["attempts"],
        spent_nano_usd=NanoUsd(row["spent_nano_usd"]),
        created_at=row["created_at"],
        rested_at=row["rested_at"],
    )


def _group(row: Row) -> DeadLetterGroup:
    return DeadLetterGroup(
        reason=row["dead_reason"],
        model=row["model"],
        jobs=row["jobs"],
        example=JobId(row["example"]),
        spent_nano_usd=NanoUsd(row["spent_nano_usd"]),
    )
