"""Gives up the leases of an ending process, without counting a death.

Running calls become unresolved charges: they may be billed.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.job import Lease
from storage.database.engine import transaction
from storage.database.notify import ring
from storage.database.statements import fetch
from storage.jobs.claims import fences
from storage.queue.poison_isolation import SUSPECT_DEATHS

HAND_BACK = f"""
WITH given AS (
    SELECT j.id, g.fence
    FROM jobs j JOIN unnest(CAST(:id AS text[]), CAST(:fence AS bigint[])) AS g (id, fence) ON j.id = g.id
    WHERE j.fence = g.fence AND j.state = 'running'
    ORDER BY j.id FOR NO KEY UPDATE OF j
), returned AS (
    UPDATE jobs j SET state = CASE WHEN j.deaths >= {SUSPECT_DEATHS} THEN 'waiting' ELSE 'queued' END,
        wait_reason = CASE WHEN j.deaths >= {SUSPECT_DEATHS} THEN 'suspect'
                           WHEN j.waiting_since IS NOT NULL THEN j.wait_reason END,
        wake_at = CASE WHEN j.deaths >= {SUSPECT_DEATHS} THEN j.expires_at END,
        generation = j.generation + 1, fence = j.fence + 1, holder = NULL, lease_until = NULL, dispatched_at = NULL
    FROM given g WHERE j.id = g.id AND j.fence = g.fence AND j.state = 'running' AND NOT j.synchronous
    RETURNING j.id
), suspended AS (
    UPDATE attempts a SET state = 'suspense', outcome = 'handed_back', cost_nano_usd = a.reserved_nano_usd,
        closed_at = clock_timestamp()
    FROM returned r WHERE a.job_id = r.id AND a.state = 'opened'
)
SELECT id FROM returned
"""  # noqa: S608 - a constant

SUSPENDED = """
SELECT id, job_id, fence, account, model, epoch, stamp, counters, reserved_tokens, reserved_nano_usd, price, request,
    opened_at
FROM attempts WHERE job_id = :job_id AND state = 'suspense' ORDER BY opened_at DESC, id
"""


async def hand_back(engine: AsyncEngine, leases: Sequence[Lease]) -> list[bool]:
    """Queue jobs under new generations; suspects wait to run alone.

    False where lost or synchronous. Raises PostgresUnavailable.
    """
    async with transaction(engine) as connection:
        rows = await fetch(connection, HAND_BACK, fences(leases))
        await ring(connection)
    returned = {row["id"] for row in rows}
    return [lease.job_id in returned for lease in leases]
