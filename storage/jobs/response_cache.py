"""Finds an earlier answer to the same whole request of the same tenant.

The cache is the completed jobs themselves, by the digest of their canonical request (index `jobs_same_answer`). Each
answer met its contract, which is part of the request. Nothing is written, so no copy can grow stale.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.ids import JobId, TenantId
from schemas.jsons import JsonObject
from storage.database.engine import transaction
from storage.database.statements import fetch

SAME = """
SELECT j.id, r.reply, r.output
FROM jobs j JOIN job_results r ON r.job_id = j.id
WHERE j.tenant_id = :tenant_id AND j.request_digest = :digest AND j.state = 'completed'
ORDER BY j.rested_at DESC LIMIT 1
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredAnswer:
    """A reply that met its contract, and its job."""

    job_id: JobId
    reply: JsonObject
    output: Any


class AnswerReads:
    """The exact-match cache."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def same(self, tenant_id: TenantId, request_digest: str) -> StoredAnswer | None:
        """The latest answer to this request. Raises PostgresUnavailable."""
        async with transaction(self._engine) as connection:
            rows = await fetch(connection, SAME, {"tenant_id": tenant_id, "digest": request_digest})
        if not rows:
            return None
        return StoredAnswer(job_id=JobId(rows[0]["id"]), reply=rows[0]["reply"], output=rows[0]["output"])
