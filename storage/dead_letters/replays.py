"""Replays dead letters with new tries under a new generation.

Invariants: nothing else leaves a terminal state. A letter leaves `dead` by compare-and-set on its generation. A replay
takes only jobs that died before it. A patched request has a marked digest, so it shares no cached answers with the
original.
"""

from collections.abc import Sequence

from schemas.errors import IdempotencyConflict
from schemas.ids import JobId, ReplayId, TenantId
from schemas.jsons import JsonObject
from schemas.replay import NewReplay, Refused, Replay, ReplayedLetter, ReplayOutcomes, ReplayState
from storage.database.listings import NEWEST_FIRST, ListedTable, page
from storage.database.mapping import read_as
from storage.database.statements import Row, by_bytes, fetch, run
from storage.dead_letters.reads import COUNT, EACH_TENANT, MEANT, conditions
from storage.dead_letters.replay_rounds import BURST_SECONDS, move
from storage.dead_letters.replay_rows import replay_from, replay_parameters

MOST_REFUSALS_SHOWN = 20

ALLOWED = f"""
    CASE WHEN r.per_second IS NULL THEN 2147483647
         ELSE LEAST(GREATEST(1, r.per_second * {BURST_SECONDS}),
                    r.per_second * extract(epoch FROM clock_timestamp() - r.paced_at))::numeric END
"""

INSERT = f"""
INSERT INTO replays (id, tenant_id, idempotency_key, filter, patch, canary, threshold, per_second, state, total)
VALUES (:id, CAST(:owner_id AS text), :idempotency_key, CAST(:filter AS json), CAST(:patch AS json), :canary,
    :threshold, :per_second, CASE WHEN :canary > 0 THEN 'canary' ELSE 'running' END, ({COUNT}))
ON CONFLICT (COALESCE(tenant_id, ''), idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
"""  # noqa: S608 - one constant inside another

SEE = f"SELECT r.*, floor({ALLOWED})::int AS allowed FROM replays r"  # noqa: S608 - the same
NAMED = f"""
{SEE} WHERE r.idempotency_key = :idempotency_key AND COALESCE(r.tenant_id, '') = COALESCE(CAST(:owner_id AS text), '')
"""
FIND = f"{SEE} WHERE r.id = :id AND (CAST(:owner_id AS text) IS NULL OR r.tenant_id = :owner_id)"
NEWEST = f"{SEE} WHERE (CAST(:owner_id AS text) IS NULL OR r.tenant_id = :owner_id) {NEWEST_FIRST}"
NEWEST_CURSOR = """
SELECT created_at AS at FROM replays
WHERE id = :after AND (CAST(:owner_id AS text) IS NULL OR tenant_id = :owner_id)
"""
UNDER_WAY = """
SELECT id, COALESCE(tenant_id, '') AS owner FROM replays WHERE state IN ('canary', 'judging', 'running')
ORDER BY created_at
"""

NEXT = f"""
SELECT p.*
FROM {EACH_TENANT} t CROSS JOIN LATERAL (
    SELECT j.id, j.tenant_id, j.generation, j.rested_at FROM jobs j
    WHERE j.tenant_id = t.id AND {MEANT} AND j.rested_at < :before_at
      AND (CAST(:cursor_at AS timestamptz) IS NULL OR j.rested_at >= :cursor_at)
      AND NOT EXISTS (SELECT 1 FROM replay_jobs d WHERE d.replay_id = :replay_id AND d.job_id = j.id)
    ORDER BY j.rested_at, j.id DESC LIMIT :most
) p
ORDER BY p.rested_at, p.id DESC LIMIT :most
"""  # noqa: S608 - the same

BODY_BYTES = """
SELECT job_id, octet_length(body::text) AS bytes FROM job_bodies WHERE job_id = ANY(CAST(:ids AS text[]))
"""
BODIES = "SELECT job_id, body FROM job_bodies WHERE job_id = ANY(CAST(:ids AS text[]))"

ENTER = """
UPDATE replays r SET state = :state, detail = COALESCE(CAST(:detail AS text), detail),
    version = version + 1, cursor_at = NULL,
    finished_at = CASE WHEN :state IN ('completed', 'stopped', 'cancelled') THEN clock_timestamp() END
WHERE r.id = :id AND r.version = :version AND r.state = :from_state
RETURNING r.id
"""

CANCEL = """
UPDATE replays SET state = 'cancelled', version = version + 1, finished_at = clock_timestamp()
WHERE id = :id AND (CAST(:owner_id AS text) IS NULL OR tenant_id = :owner_id)
  AND state IN ('canary', 'judging', 'running', 'stopped')
RETURNING id
"""

STOP = """
UPDATE replays SET state = 'stopped', detail = :reason, version = version + 1, cursor_at = NULL,
    finished_at = clock_timestamp()
WHERE id = :id AND state IN ('canary', 'judging', 'running')
RETURNING id
"""

FORGET_EMPTY = (
    "DELETE FROM replays WHERE id = :id AND state = 'completed' AND replayed = 0 AND refused = 0 RETURNING id"
)

RESUME = """
UPDATE replays SET state = 'running', version = version + 1, finished_at = NULL, paced_at = clock_timestamp()
WHERE id = :id AND (CAST(:owner_id AS text) IS NULL OR tenant_id = :owner_id) AND state = 'stopped'
RETURNING id
"""

STATES = """
SELECT j.state, d.canary, count(*) AS jobs FROM replay_jobs d JOIN jobs j ON j.id = d.job_id
WHERE d.replay_id = :id AND d.refusal IS NULL
GROUP BY j.state, d.canary ORDER BY j.state
"""
REFUSALS = """
SELECT job_id, refusal FROM replay_jobs WHERE replay_id = :id AND refusal IS NOT NULL ORDER BY at, job_id LIMIT :most
"""
REPLAYED = "SELECT job_id FROM replay_jobs WHERE replay_id = :id AND refusal IS NULL ORDER BY at, job_id"


class ReplayTable(ListedTable):
    """Stores replays. Every method may run twice and concurrently."""

    async def create(self, replay: NewReplay) -> Replay:
        """Store a replay. Raises IdempotencyConflict for another replay under the key."""
        parameters = replay_parameters(replay)
        owner = {"owner_id": parameters.pop("tenant_id")}
        async with self._transaction() as connection:
            await run(connection, INSERT, conditions(replay.which) | owner | parameters)
            rows = await fetch(connection, FIND, {"id": replay.id} | owner)
            if rows:
                return replay_from(rows[0])
            [named] = await fetch(connection, NAMED, owner | {"idempotency_key": replay.idempotency_key})
        return _same(replay, replay_from(named))

    async def find(self, replay_id: ReplayId, tenant_scope: TenantId | None) -> Replay | None:
        """Read a replay of this tenant; None is the operator."""
        rows = await self._fetch_once(FIND, id=replay_id, owner_id=tenant_scope)
        return replay_from(rows[0]) if rows else None

    async def newest(self, tenant_scope: TenantId | None, *, after: ReplayId | None, most: int) -> Sequence[Replay]:
        """List replays, newest first. Raises NotFound for another owner's cursor."""
        async with self._listings.transaction(tenant_scope) as connection:
            rows = await page(connection, NEWEST, NEWEST_CURSOR, after=after, most=most, owner_id=tenant_scope)
        return [replay_from(row) for row in rows]

    async def under_way(self) -> dict[ReplayId, str]:
        """Return the tenants of unfinished replays, oldest first; '' is the operator."""
        return {ReplayId(row["id"]): row["owner"] for row in await self._fetch_once(UNDER_WAY)}

    async def next(self, replay: Replay, most: int) -> Sequence[ReplayedLetter]:
        """Read the next letters, the longest dead first.

        Bodies come where the patch changes them; large bodies make them fewer.
        """
        terms = {"replay_id": replay.id, "before_at": replay.created_at, "cursor_at": replay.cursor_at, "most": most}
        rows = await self._fetch_once(NEXT, **conditions(replay.which), **terms)
        if not replay.patch.changes_bodies or not rows:
            return [_letter(row) for row in rows]
        ids = [row["id"] for row in rows]
        sizes = {row["job_id"]: row["bytes"] for row in await self._fetch_once(BODY_BYTES, ids=ids)}
        first = set(next(by_bytes({name: sizes.get(name, 0) for name in ids})))
        bodies = {row["job_id"]: row["body"] for row in await self._fetch_once(BODIES, ids=list(first))}
        return [_letter(row, bodies.get(row["id"])) for row in rows if row["id"] in first]

    async def move(
        self, replay: Replay, patched_jobs: Sequence[ReplayedLetter], refused: Sequence[Refused]
    ) -> Sequence[JobId] | None:
        """Move one round; returns the moved, None for a stale version."""
        return await move(self._engine, replay, patched_jobs, refused)

    async def enter(self, replay: Replay, state: ReplayState, detail: str | None = None) -> bool:
        """Change the replay's state; False for a stale version."""
        known = {"id": replay.id, "version": replay.version, "from_state": replay.state.value}
        return bool(await self._fetch_once(ENTER, **known, state=state.value, detail=detail))

    async def cancel(self, replay_id: ReplayId, tenant_scope: TenantId | None) -> bool:
        """Cancel a replay; its queued jobs go on. False where it cannot be cancelled."""
        return bool(await self._fetch_once(CANCEL, id=replay_id, owner_id=tenant_scope))

    async def stop(self, replay_id: ReplayId, reason: str) -> bool:
        """Stop a replay with a reason; False where it is not under way."""
        return bool(await self._fetch_once(STOP, id=replay_id, reason=reason))

    async def forget_empty(self, replay_id: ReplayId) -> bool:
        """Delete a completed replay that moved no letters; False for any other."""
        return bool(await self._fetch_once(FORGET_EMPTY, id=replay_id))

    async def resume(self, replay_id: ReplayId, tenant_scope: TenantId | None) -> bool:
        """Continue a stopped replay; False where it is not stopped."""
        return bool(await self._fetch_once(RESUME, id=replay_id, owner_id=tenant_scope))

    async def outcomes(self, replay_id: ReplayId) -> ReplayOutcomes:
        """Count outcomes of its jobs so far."""
        async with self._transaction() as connection:
            rows = await fetch(connection, STATES, {"id": replay_id})
            refusals = await fetch(connection, REFUSALS, {"id": replay_id, "most": MOST_REFUSALS_SHOWN})
        states: dict[str, int] = {}
        for row in rows:
            states[row["state"]] = states.get(row["state"], 0) + row["jobs"]
        return ReplayOutcomes(
            states=states,
            canaries={row["state"]: row["jobs"] for row in rows if row["canary"]},
            refusals=[(JobId(row["job_id"]), row["refusal"]) for row in refusals],
        )

    async def replayed(self, replay_id: ReplayId) -> list[JobId]:
        """List the jobs that it queued again."""
        return [JobId(row["job_id"]) for row in await self._fetch_once(REPLAYED, id=replay_id)]


def _same(requested: NewReplay, stored: Replay) -> Replay:
    if replay_parameters(requested) | {"id": stored.id} != replay_parameters(stored):
        raise IdempotencyConflict(
            f"The idempotency key {requested.idempotency_key!r} was used before with another replay.",
            param="idempotency_key",
        )
    return stored


def _letter(row: Row, body: JsonObject | None = None) -> ReplayedLetter:
    return read_as(ReplayedLetter, row, body=body, model=None, contract=None)
