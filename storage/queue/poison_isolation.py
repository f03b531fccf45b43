"""Isolates suspects: jobs that run alone after their workers died twice.

They wait until upkeep starts a process for each. Only a death of that process, seen by its parent, quarantines a job.
"""

from collections import Counter
from collections.abc import Mapping

from schemas.ids import JobId, TenantId
from storage.database.statements import PostgresTable
from storage.queue.controls import STOPPED

SUSPECT_DEATHS = 2
"""Deaths after which a job runs alone. The index `jobs_suspected` has it as a literal."""

UNCLAIMED_SECONDS = 60.0
"""A process that has not claimed its suspect by then never will."""

NEXT_ALONE = f"""
WITH ready AS (
    SELECT j.id, row_number() OVER (PARTITION BY j.tenant_id ORDER BY j.created_at, j.id)
        + COALESCE(u.under_way, 0) AS place, j.created_at
    FROM jobs j LEFT JOIN unnest(CAST(:tenants AS text[]), CAST(:under_way AS int[])) AS u (tenant_id, under_way)
        ON u.tenant_id = j.tenant_id
    WHERE j.deaths >= {SUSPECT_DEATHS} AND j.state IN ('queued', 'waiting') AND j.expires_at > statement_timestamp()
      AND CASE WHEN j.state = 'waiting' THEN j.wait_reason = 'suspect' OR j.wake_at <= statement_timestamp()
               ELSE j.dispatched_at IS NULL
                    OR j.dispatched_at < statement_timestamp() - make_interval(secs => :unclaimed_seconds) END
      AND NOT {STOPPED} AND j.id <> ALL(CAST(:job_ids AS text[]))
), next AS (
    SELECT j.id FROM jobs j JOIN (
        SELECT id FROM ready WHERE place <= :most_of_tenant ORDER BY place, created_at LIMIT :most
    ) r USING (id)
    WHERE j.deaths >= {SUSPECT_DEATHS} AND j.state IN ('queued', 'waiting') FOR NO KEY UPDATE OF j SKIP LOCKED
)
UPDATE jobs j SET state = 'queued', generation = j.generation + 1, dispatched_at = clock_timestamp(), wake_at = NULL,
    wait_reason = NULL
FROM next WHERE j.id = next.id
RETURNING j.id, j.generation, j.tenant_id
"""  # noqa: S608 - a constant
"""A tenant's running suspects count as its first."""

QUARANTINE = """
WITH quarantined AS (
    UPDATE jobs SET state = 'dead', dead_reason = 'poison', message = :message, deaths = deaths + 1,
        rested_at = clock_timestamp(), dead_nano_usd = spent_nano_usd, generation = generation + 1, fence = fence + 1,
        holder = NULL, lease_until = NULL, dispatched_at = NULL
    WHERE id = :id AND generation = :generation AND state = 'running'
    RETURNING id
), suspended AS (
    UPDATE attempts a SET state = 'suspense', outcome = 'worker_lost', cost_nano_usd = a.reserved_nano_usd,
        closed_at = clock_timestamp()
    FROM quarantined q WHERE a.job_id = q.id AND a.state = 'opened'
), deliveries AS (
    UPDATE pending_results p SET ready = true FROM quarantined q WHERE p.job_id = q.id
)
SELECT id FROM quarantined
"""


class SuspectTable(PostgresTable):
    """Takes and quarantines suspects."""

    async def next_alone(
        self,
        most: int,
        most_of_tenant: int,
        under_way: Mapping[JobId, TenantId],
        unclaimed_seconds: float = UNCLAIMED_SECONDS,
    ) -> list[tuple[JobId, int, TenantId]]:
        """Take up to `most` suspects to run now, each under a new generation.

        `most_of_tenant` includes those `under_way`, which are not taken again.
        """
        by_tenant = Counter(under_way.values())
        rows = await self._fetch_once(
            NEXT_ALONE,
            most=most,
            most_of_tenant=most_of_tenant,
            unclaimed_seconds=unclaimed_seconds,
            tenants=list(by_tenant),
            under_way=list(by_tenant.values()),
            job_ids=list(under_way),
        )
        return [(JobId(row["id"]), row["generation"], TenantId(row["tenant_id"])) for row in rows]

    async def quarantine(self, job_id: JobId, generation: int, message: str) -> bool:
        """Set a job to dead as poison; False where it had ended or moved on."""
        return bool(await self._fetch_once(QUARANTINE, id=job_id, generation=generation, message=message))
