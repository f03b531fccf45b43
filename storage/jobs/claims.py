"""Claims jobs by compare-and-set, and renews and gives up their leases."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from schemas.ids import JobId
from schemas.job import Job, Lease, LeasedJob
from storage.queue.controls import STOPPED
from storage.queue.poison_isolation import SUSPECT_DEATHS

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

_HELD = """
WITH held AS (
    SELECT j.id, g.fence
    FROM jobs j JOIN unnest(CAST(:id AS text[]), CAST(:fence AS bigint[])) AS g (id, fence) ON j.id = g.id
    WHERE j.fence = g.fence AND j.state = 'running'
    ORDER BY j.id FOR NO KEY UPDATE OF j
)"""
"""Jobs that these leases still hold."""

RENEW = f"""{_HELD}
UPDATE jobs j SET lease_until = clock_timestamp() + make_interval(secs => :lease_seconds)
FROM held h
WHERE j.id = h.id AND j.fence = h.fence AND j.state = 'running'
RETURNING j.id
"""  # noqa: S608 - a constant

HAND_BACK = f"""{_HELD}, returned AS (
    UPDATE jobs j SET state = CASE WHEN j.deaths >= {SUSPECT_DEATHS} THEN 'waiting' ELSE 'queued' END,
        wait_reason = CASE WHEN j.deaths >= {SUSPECT_DEATHS} THEN 'suspect'
                           WHEN j.waiting_since IS NOT NULL THEN j.wait_reason END,
        wake_at = CASE WHEN j.deaths >= {SUSPECT_DEATHS} THEN j.expires_at END,
        generation = j.generation + 1, fence = j.fence + 1, holder = NULL, lease_until = NULL, dispatched_at = NULL
    FROM held h WHERE j.id = h.id AND j.fence = h.fence AND j.state = 'running' AND NOT j.synchronous
    RETURNING j.id
), suspended AS (
    UPDATE attempts a SET state = 'suspense', outcome = 'handed_back', cost_nano_usd = a.reserved_nano_usd,
        closed_at = clock_timestamp()
    FROM returned r WHERE a.job_id = r.id AND a.state = 'opened'
)
SELECT id FROM returned
"""  # noqa: S608 - a constant
"""Running calls become unresolved charges: they may be billed. Suspects wait to run alone."""

SUSPENDED = """
SELECT id, job_id, fence, account, model, epoch, stamp, counters, reserved_tokens, reserved_nano_usd, price, request,
    opened_at
FROM attempts WHERE job_id = :job_id AND state = 'suspense' ORDER BY opened_at DESC, id
"""


def fences(leases: Sequence[Lease]) -> dict[str, Any]:
    """Return jobs and fences of leases as parameters."""
    return {"id": [lease.job_id for lease in leases], "fence": [lease.fence for lease in leases]}


class Claim(NamedTuple):
    """Names a claim, so that it may be repeated."""

    job_id: JobId
    generation: int
    name: str | None = None


def leased(job: Job, until_at: datetime, holder: str) -> LeasedJob:
    """Return a job with `holder`'s lease."""
    lease = Lease(job_id=job.id, fence=job.fence, holder=holder, until_at=until_at.astimezone(UTC))
    return LeasedJob(job=job, lease=lease)
