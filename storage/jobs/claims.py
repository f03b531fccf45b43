"""Claims jobs by compare-and-set, and renews their leases."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from schemas.ids import JobId
from schemas.job import Lease, LeasedJob
from storage.queue.controls import STOPPED
from storage.rows import job_from

HOLD = f"""
WITH wanted AS (
    SELECT j.id, g.generation, g.claim
    FROM unnest(CAST(:id AS text[]), CAST(:generation AS int[]), CAST(:claim AS text[])) AS g (id, generation, claim)
    JOIN jobs j ON j.id = g.id
    WHERE j.generation = g.generation AND (j.holder = g.claim OR (j.state = 'queued' AND NOT {STOPPED}))
    ORDER BY j.id FOR NO KEY UPDATE OF j
), held AS (
    UPDATE jobs j
    SET state = 'running', fence = j.fence + CASE WHEN j.state = 'queued' THEN 1 ELSE 0 END,
        holder = COALESCE(w.claim, :holder),
        lease_until = clock_timestamp() + make_interval(secs => :lease_seconds)
    FROM wanted w
    WHERE j.id = w.id AND j.generation = w.generation AND (j.holder = w.claim OR j.state = 'queued')
      AND j.expires_at > clock_timestamp()
    RETURNING j.*
)
SELECT held.*, b.body,
    held.fence > 1 AND EXISTS (
        SELECT 1 FROM attempts a WHERE a.job_id = held.id AND a.state = 'suspense') AS in_suspense
FROM held JOIN job_bodies b ON b.job_id = held.id
"""  # noqa: S608 - a constant

RENEW = """
WITH held AS (
    SELECT j.id, g.fence
    FROM jobs j JOIN unnest(CAST(:id AS text[]), CAST(:fence AS bigint[])) AS g (id, fence) ON j.id = g.id
    WHERE j.fence = g.fence AND j.state = 'running'
    ORDER BY j.id FOR NO KEY UPDATE OF j
)
UPDATE jobs j SET lease_until = clock_timestamp() + make_interval(secs => :lease_seconds)
FROM held h
WHERE j.id = h.id AND j.fence = h.fence AND j.state = 'running'
RETURNING j.id
"""


def fences(leases: Sequence[Lease]) -> dict[str, Any]:
    """Return jobs and fences of leases as parameters."""
    return {"id": [lease.job_id for lease in leases], "fence": [lease.fence for lease in leases]}


class Claim(NamedTuple):
    """Names a claim, so that it may be repeated."""

    job_id: JobId
    generation: int
    name: str | None = None


def leased_job(row: Any, holder: str) -> LeasedJob:  # noqa: ANN401 - a row
    """Read a job with `holder`'s lease."""
    job = job_from(row)
    until_at: datetime = row["lease_until"]
    return LeasedJob(
        job=job, lease=Lease(job_id=job.id, fence=job.fence, holder=holder, until_at=until_at.astimezone(UTC))
    )
