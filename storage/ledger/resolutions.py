"""Resolves unresolved charges and corrects booked ones.

Invariants: a state test resolves an attempt once. Jobs are locked before attempts.
"""

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.attempt import AttemptState
from schemas.errors import NotFound
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

ADJUST = """
WITH entry AS (
    INSERT INTO ledger (attempt_id, kind, seq, nano_usd, tenant_id, end_user, batch_id, account, model, at, lane,
        prompt, tier, cause)
    SELECT a.id, 'adjust',
        (SELECT COALESCE(max(seq) + 1, 0) FROM ledger WHERE attempt_id = a.id AND kind = 'adjust'),
        :nano_usd, j.tenant_id, j.end_user, j.batch_id, a.account, a.model, clock_timestamp(), j.lane, j.prompt,
        a.tier, (SELECT cause FROM ledger WHERE attempt_id = a.id ORDER BY id LIMIT 1)
    FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.id = :id
    RETURNING attempt_id, seq, nano_usd
), spent AS (
    UPDATE jobs j SET spent_nano_usd = j.spent_nano_usd + e.nano_usd
    FROM entry e JOIN attempts a ON a.id = e.attempt_id WHERE j.id = a.job_id
)
SELECT seq FROM entry
"""


async def resolve(
    connection: AsyncConnection, attempt_id: AttemptId, state: AttemptState, kind: str, cost: NanoUsd
) -> bool:
    """Resolve a charge by an entry of this kind; False when resolved before."""
    await run(connection, LOCK_JOB, {"id": attempt_id})
    end = {"id": attempt_id, "state": state.value, "kind": kind, "nano_usd": cost}
    return bool(await fetch(connection, RESOLVE, end))


async def adjust(connection: AsyncConnection, attempt_id: AttemptId, nano_usd: int) -> int:
    """Add a correction of either sign; returns its number. Raises NotFound."""
    await run(connection, LOCK_JOB, {"id": attempt_id})
    rows = await fetch(connection, ADJUST, {"id": attempt_id, "nano_usd": nano_usd})
    if not rows:
        raise NotFound(f"There is no attempt {attempt_id!r}.")
    return int(rows[0]["seq"])
