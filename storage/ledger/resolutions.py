"""Resolves unresolved charges.

Invariants: a state test resolves an attempt once. Jobs are locked before attempts.
"""

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.attempt import AttemptState
from schemas.ids import AttemptId
from schemas.money import NanoUsd
from storage.database.statements import fetch, run

RESOLVE = """
WITH resolved AS (
    UPDATE attempts a SET state = :state, outcome = :kind, cost_nano_usd = :nano_usd, closed_at = clock_timestamp()
    WHERE a.id = :id AND a.state = 'suspense'
    RETURNING a.id, a.job_id, a.account, a.model
), booked AS (
    INSERT INTO ledger (attempt_id, kind, nano_usd, tenant_id, end_user, batch_id, account, model, at, lane, prompt,
        cause)
    SELECT r.id, :kind, :nano_usd, j.tenant_id, j.end_user, j.batch_id, r.account, r.model, clock_timestamp(),
        j.lane, j.prompt, CASE WHEN CAST(:state AS text) = 'posted' THEN 'duplicate' END
    FROM resolved r JOIN jobs j ON j.id = r.job_id
    ON CONFLICT (attempt_id, kind, seq) DO NOTHING
    RETURNING attempt_id, nano_usd
), spent AS (
    UPDATE jobs j SET spent_nano_usd = j.spent_nano_usd + b.nano_usd
    FROM booked b JOIN resolved r ON r.id = b.attempt_id WHERE j.id = r.job_id
)
SELECT id FROM resolved
"""

LOCK_JOB = """
SELECT j.id FROM jobs j JOIN attempts a ON a.job_id = j.id WHERE a.id = :id FOR NO KEY UPDATE OF j
"""


async def resolve(
    connection: AsyncConnection, attempt_id: AttemptId, state: AttemptState, kind: str, cost: NanoUsd
) -> bool:
    """Resolve a charge by an entry of this kind; False when resolved before."""
    await run(connection, LOCK_JOB, {"id": attempt_id})
    end = {"id": attempt_id, "state": state.value, "kind": kind, "nano_usd": cost}
    return bool(await fetch(connection, RESOLVE, end))
