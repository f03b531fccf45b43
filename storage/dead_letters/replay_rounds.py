"""Moves one round of a replay in one transaction, fenced by the replay's version."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from schemas.ids import JobId
from schemas.replay import Refused, Replay, ReplayedLetter, ReplayState
from storage.database.engine import transaction
from storage.database.mapping import values_of
from storage.database.notify import ring
from storage.database.statements import columns, fetch, run, unnested
from storage.dead_letters.replay_rows import mended_parameters

BURST_SECONDS = 1.0
"""Seconds of its rate that a delayed replay may catch up on at once."""

STEP = """
UPDATE replays r SET version = version + 1, cursor_at = :cursor_at
WHERE r.id = :id AND r.version = :version AND r.state IN ('canary', 'running')
RETURNING r.id
"""

MOVE = f"""
WITH given AS (
    SELECT * FROM {unnested("id text, generation int, model text, contract text, body text")}
), locked AS (
    SELECT j.id FROM jobs j JOIN given g ON j.id = g.id
    WHERE j.state = 'dead' AND j.discarded_at IS NULL AND j.generation = g.generation
    ORDER BY j.id FOR NO KEY UPDATE OF j
), moved AS (
    UPDATE jobs j SET state = 'queued', generation = j.generation + 1, tries = 0, deaths = 0, dead_reason = NULL,
        message = NULL, fingerprint = NULL, cause = NULL, dead_nano_usd = NULL, rested_at = NULL,
        dispatched_at = NULL, wake_at = NULL, synchronous = false,
        model = COALESCE(g.model, j.model), contract = COALESCE(g.contract::json, j.contract),
        lane = COALESCE(CAST(:lane AS text), j.lane),
        request_digest = CASE WHEN g.body IS NULL THEN j.request_digest
            ELSE 'patched:' || CAST(:replay_id AS text) || ':' || j.request_digest END,
        expires_at = clock_timestamp() + make_interval(secs => :deadline_seconds),
        max_cost_nano_usd = COALESCE(CAST(:max_cost_nano_usd AS bigint), j.max_cost_nano_usd)
    FROM locked l JOIN given g ON g.id = l.id
    WHERE j.id = l.id AND j.state = 'dead' AND j.generation = g.generation
    RETURNING j.id, j.generation
), bodies AS (
    UPDATE job_bodies b SET body = g.body::json
    FROM given g JOIN moved ON moved.id = g.id WHERE b.job_id = g.id AND g.body IS NOT NULL
), noted AS (
    INSERT INTO replay_jobs (replay_id, job_id, generation, canary)
    SELECT :replay_id, id, generation, :canary FROM moved
)
SELECT id FROM moved
"""  # noqa: S608 - a constant

REFUSE = """
INSERT INTO replay_jobs (replay_id, job_id, generation, refusal)
SELECT :replay_id, g.id, g.generation, g.why
FROM unnest(CAST(:id AS text[]), CAST(:generation AS int[]), CAST(:why AS text[])) AS g (id, generation, why)
ON CONFLICT DO NOTHING
"""

NOTE = f"""
UPDATE replays r SET replayed = replayed + :moved, refused = refused + :refused,
    state = CASE WHEN state = 'canary' AND (replayed + :moved >= canary) THEN 'judging' ELSE state END,
    paced_at = CASE WHEN per_second IS NULL THEN paced_at
        ELSE GREATEST(paced_at + make_interval(secs => :moved / per_second),
                      clock_timestamp() - make_interval(secs => GREATEST({BURST_SECONDS}, 1 / per_second))) END
WHERE id = :id
"""  # noqa: S608 - a constant


async def move(
    engine: AsyncEngine, replay: Replay, patched_jobs: Sequence[ReplayedLetter], refused: Sequence[Refused]
) -> list[JobId] | None:
    """Queue patched jobs and store refused ones; returns the moved, None for a stale version."""
    step = {"id": replay.id, "version": replay.version, "cursor_at": _cursor(patched_jobs, refused)}
    async with transaction(engine) as connection:
        if not await fetch(connection, STEP, step):
            return None
        moved = await _moved(connection, replay, patched_jobs)
        if refused:
            refusals = columns([values_of(refusal.letter) | {"why": refusal.why} for refusal in refused])
            await run(connection, REFUSE, refusals | {"replay_id": replay.id})
        counts = {"moved": len(moved), "refused": len(refused)}
        await run(connection, NOTE, {"id": replay.id} | counts)
    return moved


async def _moved(connection: AsyncConnection, replay: Replay, patched_jobs: Sequence[ReplayedLetter]) -> list[JobId]:
    if not patched_jobs:
        return []
    terms = values_of(replay.patch) | {"replay_id": replay.id, "canary": replay.state is ReplayState.CANARY}
    of_each = columns([mended_parameters(patched_job) for patched_job in patched_jobs])
    rows = await fetch(connection, MOVE, terms | of_each)
    await ring(connection)
    return [JobId(row["id"]) for row in rows]


def _cursor(patched_jobs: Sequence[ReplayedLetter], refused: Sequence[Refused]) -> datetime | None:
    """Return where the next round starts; `replay_jobs` separates letters of equal time."""
    letters = [*patched_jobs, *(refusal.letter for refusal in refused)]
    return max((letter.rested_at for letter in letters), default=None)
