"""Stores counts and phases of batches with a stop-loss.

Invariant: a held job is `waiting` for `canary` without a time to wake. The phase changes when a release finds no more
jobs.
"""

from schemas.control import Kind, Subject, Verb
from schemas.ids import BatchId, TenantId
from schemas.money import NanoUsd
from schemas.stop_loss import StopLoss, Tally, Watched
from storage.database.engine import dumps
from storage.database.mapping import read_as
from storage.database.notify import ring
from storage.database.statements import PostgresTable, Row, fetch
from storage.queue.controls import begin

MOST_WATCHED = 100
MOST_PER_ROUND = 2_000
"""Jobs per round of a release: about a tenth of a second."""

WATCHED = """
SELECT b.id, b.max_cost_nano_usd, b.max_error_rate, b.canary, b.phase, b.total, t.*
FROM (
    SELECT w.*, row_number() OVER (PARTITION BY w.tenant_id ORDER BY w.created_at, w.id) AS place FROM batches w
    WHERE w.status = 'in_progress' AND w.phase IN ('canary', 'held', 'releasing', 'watched')
    ORDER BY place, w.created_at LIMIT :most
) b CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE j.state = 'completed') AS completed,
        count(*) FILTER (WHERE j.state IN ('dead', 'expired')) AS failed,
        count(*) FILTER (WHERE j.state IN ('queued', 'running')
            OR (j.state = 'waiting' AND j.wait_reason IS DISTINCT FROM 'canary')) AS alive,
        count(*) FILTER (WHERE j.state = 'waiting' AND j.wait_reason = 'canary') AS held,
        COALESCE(sum(j.spent_nano_usd), 0)::bigint AS spent_nano_usd
    FROM jobs j WHERE j.batch_id = b.id
) t
ORDER BY b.place, b.created_at
"""

STOP = """
UPDATE batches SET phase = 'stopped', stopped = :reason, errors = CAST(:errors AS json), status = 'cancelling',
    cancelling_at = clock_timestamp()
WHERE id = :id AND status = 'in_progress' AND phase <> 'stopped' RETURNING id
"""

HOLD = """
UPDATE batches SET phase = 'held', projected_nano_usd = :projected
WHERE id = :id AND phase = 'canary' RETURNING id
"""

PROCEED = """
UPDATE batches SET phase = 'releasing'
WHERE id = :id AND tenant_id = :tenant_id AND status = 'in_progress' AND phase IN ('canary', 'held') RETURNING id
"""

LOCK = """
UPDATE batches SET phase = 'releasing', projected_nano_usd = COALESCE(:projected, projected_nano_usd)
WHERE id = :id AND status = 'in_progress' AND phase IN ('canary', 'releasing') RETURNING id
"""

RELEASE = """
WITH held AS (
    SELECT id FROM jobs WHERE batch_id = :id AND state = 'waiting' AND wait_reason = 'canary'
    ORDER BY id LIMIT :most FOR NO KEY UPDATE
)
UPDATE jobs j SET state = 'queued', wait_reason = NULL, generation = j.generation + 1
FROM held h WHERE j.id = h.id
RETURNING j.id
"""

ALL_RELEASED = "UPDATE batches SET phase = 'watched' WHERE id = :id AND phase = 'releasing' RETURNING id"


class StopLossTable(PostgresTable):
    """Implements `tasks.batches.stop_loss.StopLossRows` in Postgres."""

    async def watched(self, most: int = MOST_WATCHED) -> list[Watched]:
        """List batches in progress with counts, the oldest of each tenant first."""
        return [_watched(row) for row in await self._fetch_once(WATCHED, most=most)]

    async def stop(self, batch_id: BatchId, reason: str) -> bool:
        """Store the reason and cancel one round of jobs; upkeep cancels the rest."""
        errors = dumps([{"code": "batch_stopped", "message": reason, "param": None, "line": None}])
        async with self._transaction() as connection:
            stopped = await fetch(connection, STOP, {"id": batch_id, "reason": reason, "errors": errors})
            if stopped:
                await begin(connection, Verb.CANCEL, Subject(kind=Kind.BATCH, name=batch_id))
        return bool(stopped)

    async def hold(self, batch_id: BatchId, projected: NanoUsd) -> bool:
        """Hold the batch after its canary; False in another phase."""
        return bool(await self._fetch_once(HOLD, id=batch_id, projected=projected))

    async def proceed(self, batch_id: BatchId, tenant_id: TenantId) -> bool:
        """Release the batch during or after its canary; False in another phase."""
        return bool(await self._fetch_once(PROCEED, id=batch_id, tenant_id=tenant_id))

    async def release(self, batch_id: BatchId, projected: NanoUsd | None, most: int = MOST_PER_ROUND) -> int:
        """Queue one round of held jobs; returns how many."""
        async with self._transaction() as connection:
            if not await fetch(connection, LOCK, {"id": batch_id, "projected": projected}):
                return 0
            released = await fetch(connection, RELEASE, {"id": batch_id, "most": most})
            if len(released) < most:
                await fetch(connection, ALL_RELEASED, {"id": batch_id})
            await ring(connection)
        return len(released)


def _watched(row: Row) -> Watched:
    return read_as(Watched, row, batch_id=row["id"], terms=read_as(StopLoss, row), tally=read_as(Tally, row))
