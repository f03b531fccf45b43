"""Dead letters back to work, or put aside. Also the only arrow that leaves a state of rest.

A replay starts a new count of tries under a new generation; what was spent stays spent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.decision import DeadReason
from schemas.ids import BatchId, JobId, TenantId
from schemas.jsons import JsonObject
from schemas.money import NanoUsd
from storage.batched import fetch, run
from storage.engine import dumps, transaction
from storage.notify import ring
from storage.rows import Row

MOST_PER_ROUND = 1_000

CHOSEN = """
SELECT id FROM jobs
WHERE state = 'dead' AND discarded_at IS NULL
  AND (CAST(:tenant_id AS text) IS NULL OR tenant_id = :tenant_id)
  AND (CAST(:id AS text) IS NULL OR id = :id)
  AND (CAST(:reason AS text) IS NULL OR dead_reason = :reason)
  AND (CAST(:batch_id AS text) IS NULL OR batch_id = :batch_id)
  AND (CAST(:model AS text) IS NULL OR model = :model)
LIMIT :most FOR UPDATE SKIP LOCKED
"""

REPLAY = f"""
WITH chosen AS ({CHOSEN})
UPDATE jobs j SET state = 'queued', generation = j.generation + 1, tries = 0, deaths = 0, dead_reason = NULL,
    message = NULL, rested_at = NULL, dispatched_at = NULL, wake_at = NULL, synchronous = false,
    expires_at = clock_timestamp() + make_interval(secs => :deadline_seconds),
    max_cost_nano_usd = COALESCE(:max_cost_nano_usd, j.max_cost_nano_usd)
FROM chosen c WHERE j.id = c.id
RETURNING j.id
"""  # noqa: S608 - one constant inside another

DISCARD = f"""
WITH chosen AS ({CHOSEN})
UPDATE jobs j SET discarded_at = clock_timestamp() FROM chosen c WHERE j.id = c.id
RETURNING j.id
"""  # noqa: S608 - one constant inside another

NEW_BODY = "UPDATE job_bodies SET body = CAST(:body AS json) WHERE job_id = :id"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetters:
    """Which dead letters are meant; None does not restrict. A tenant of None is the operator's."""

    tenant_id: TenantId | None = None
    job_id: JobId | None = None
    reason: DeadReason | None = None
    batch_id: BatchId | None = None
    model: str | None = None


class ReplayTable:
    """Moves dead letters; every method may run twice and moves each job once."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def replay(
        self,
        which: DeadLetters,
        *,
        deadline_seconds: float,
        most: int = MOST_PER_ROUND,
        body: JsonObject | None = None,
        max_cost_nano_usd: NanoUsd | None = None,
    ) -> list[JobId]:
        """Queue up to `most` of them with a new deadline; `body` replaces the request of each."""
        terms = {"deadline_seconds": deadline_seconds, "max_cost_nano_usd": max_cost_nano_usd, "most": most}
        async with transaction(self._engine) as connection:
            rows = await fetch(connection, REPLAY, conditions(which) | terms)
            if body is not None:
                for row in rows:
                    await run(connection, NEW_BODY, {"id": row["id"], "body": dumps(body)})
            await ring(connection)
        return _ids(rows)

    async def discard(self, which: DeadLetters, *, most: int = MOST_PER_ROUND) -> list[JobId]:
        """Put up to `most` of them aside: they stay dead and are no longer listed nor replayed."""
        async with transaction(self._engine) as connection:
            return _ids(await fetch(connection, DISCARD, conditions(which) | {"most": most}))


def conditions(which: DeadLetters) -> dict[str, Any]:
    """Bind values of the conditions that every query over dead letters shares."""
    return {
        "tenant_id": which.tenant_id,
        "id": which.job_id,
        "reason": which.reason.value if which.reason else None,
        "batch_id": which.batch_id,
        "model": which.model,
    }


def _ids(rows: Sequence[Row]) -> list[JobId]:
    return [JobId(row["id"]) for row in rows]
