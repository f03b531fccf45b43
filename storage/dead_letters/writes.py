"""Discards, retires, classifies and imports dead letters.

Every statement is bounded, may run concurrently, and moves each letter once.
"""

from collections.abc import Sequence

import structlog

from schemas.fingerprint import cause_of
from schemas.ids import JobId
from schemas.job import NewJob
from schemas.replay import DeadLetters
from storage.database.statements import PostgresTable, Row, columns, fetch, run, unnested
from storage.dead_letters.reads import MEANT, OF_TENANT, conditions
from storage.rows import NEW_JOB, parameters_of

log = structlog.get_logger()

MOST_PER_ROUND = 1_000
"""Keeps rounds short and locks few rows."""

DISCARD = f"""
WITH chosen AS (SELECT j.id FROM jobs j WHERE {MEANT} AND {OF_TENANT} LIMIT :most FOR UPDATE SKIP LOCKED)
UPDATE jobs j SET discarded_at = clock_timestamp() FROM chosen c WHERE j.id = c.id
RETURNING j.id
"""  # noqa: S608 - constants inside another

RETIRE = """
WITH old AS (
    SELECT j.id FROM tenants t CROSS JOIN LATERAL (
        SELECT id FROM jobs
        WHERE tenant_id = t.id AND state = 'dead' AND discarded_at IS NULL
          AND rested_at < statement_timestamp() - make_interval(days => :days)
        ORDER BY rested_at LIMIT :most FOR UPDATE SKIP LOCKED
    ) j
)
UPDATE jobs j SET discarded_at = clock_timestamp() FROM old WHERE j.id = old.id
RETURNING j.id
"""

UNNAMED = "SELECT id, dead_reason, message FROM jobs WHERE state = 'dead' AND fingerprint IS NULL LIMIT :most"

NAME = f"""
WITH given AS (
    SELECT * FROM {unnested("id text, fingerprint text, cause text")}
), locked AS (
    SELECT j.id FROM jobs j JOIN given USING (id) WHERE j.state = 'dead' AND j.fingerprint IS NULL
    ORDER BY j.id FOR NO KEY UPDATE OF j
)
UPDATE jobs j SET fingerprint = g.fingerprint, cause = g.cause,
    dead_nano_usd = COALESCE(j.dead_nano_usd, j.spent_nano_usd)
FROM locked JOIN given g USING (id) WHERE j.id = locked.id AND j.state = 'dead' AND j.fingerprint IS NULL
RETURNING j.id
"""  # noqa: S608 - a constant

IMPORT = f"""
WITH given AS (
    SELECT * FROM {unnested(NEW_JOB + ", reason text, message text, fingerprint text, cause text")}
), stored AS (
    INSERT INTO jobs AS j (id, tenant_id, custom_id, lane, model, endpoint, end_user, state, expires_at, max_tries,
        max_reprompts, max_cost_nano_usd, prompt, work_tokens, request_digest, contract, dead_reason, message,
        fingerprint, cause, dead_nano_usd, rested_at)
    SELECT id, tenant_id, custom_id, lane, model, endpoint, end_user, 'dead', expires_at, max_tries, max_reprompts,
        max_cost_nano_usd, prompt, work_tokens, request_digest, contract::json, reason, message, fingerprint, cause, 0,
        clock_timestamp()
    FROM given ORDER BY id
    ON CONFLICT (id) DO UPDATE SET discarded_at = NULL, rested_at = clock_timestamp()
    WHERE j.state = 'dead' AND j.discarded_at IS NOT NULL AND j.tenant_id = EXCLUDED.tenant_id
    RETURNING id
), bodies AS (
    INSERT INTO job_bodies (job_id, body) SELECT id, g.body::json FROM given g JOIN stored USING (id) ORDER BY id
    ON CONFLICT (job_id) DO NOTHING
)
SELECT id FROM stored
"""  # noqa: S608 - constants


class LetterTable(PostgresTable):
    """Writes dead letters, except replays."""

    async def discard(self, which: DeadLetters, *, most: int = MOST_PER_ROUND) -> list[JobId]:
        """Discard up to `most`: they stay dead, and are no longer listed or replayed."""
        return _ids(await self._fetch_once(DISCARD, **conditions(which), most=most))

    async def retire(self, *, older_than_days: int) -> int:
        """Discard a round of letters dead for longer; returns how many."""
        return len(await self._fetch_once(RETIRE, days=older_than_days, most=MOST_PER_ROUND))

    async def name(self) -> int:
        """Set the cause of a round of letters without one."""
        async with self._transaction() as connection:
            rows = await fetch(connection, UNNAMED, {"most": MOST_PER_ROUND})
            named = [{"id": row["id"]} | _death(row["dead_reason"], row["message"]) for row in rows]
            if named:
                await run(connection, NAME, columns(named))
        return len(rows)

    async def bring(self, letters: Sequence[tuple[NewJob, str, str | None]]) -> list[JobId]:
        """Import jobs with reason and message; returns those that were not listed before.

        A discarded letter is listed again unchanged. The first of two with one id counts.
        """
        if not letters:
            return []
        first = {job.id: (job, reason, message) for job, reason, message in reversed(letters)}
        rows = [parameters_of(job) | _death(reason, message) for job, reason, message in first.values()]
        return _ids(await self._fetch_once(IMPORT, **columns(rows)))


def _death(reason: str, message: str | None) -> dict[str, str | None]:
    try:
        cause = cause_of(reason, message)
    except Exception:  # one unreadable message must not fail the others of its round
        log.exception("cause_unreadable", reason=reason)
        cause = cause_of(reason, None)
    return {"reason": reason, "message": message, "fingerprint": cause.fingerprint, "cause": cause.words}


def _ids(rows: Sequence[Row]) -> list[JobId]:
    return [JobId(row["id"]) for row in rows]
