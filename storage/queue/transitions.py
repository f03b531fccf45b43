"""Stages, rescues, republishes and expires due jobs.

Every statement is bounded and tests the job's state, so two leaders move a job once.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.attempt import Unsettled
from schemas.ids import JobId
from schemas.lanes import Lane
from storage.database.statements import PostgresTable
from storage.queue.poison_isolation import SUSPECT_DEATHS
from storage.rows import unsettled_from

MOST_PER_ROUND = 1_000
"""Keeps rounds short and locks few rows."""

LOST_MESSAGE_SECONDS = 60.0
"""Age at which an unclaimed job is published again, because its message may be lost. A duplicate costs one stale
claim."""

LOST_FROM_EMPTY_SECONDS = 5.0
"""The same where the lane's queue is empty: a worker took the message."""

STAGE_DUE = f"""
WITH due AS (
    SELECT id FROM jobs WHERE state = 'waiting' AND wake_at <= statement_timestamp() AND deaths < {SUSPECT_DEATHS}
    ORDER BY wake_at LIMIT :most FOR UPDATE SKIP LOCKED
)
UPDATE jobs j SET state = 'queued', generation = j.generation + 1, dispatched_at = NULL, wake_at = NULL,
    wait_reason = CASE WHEN j.waiting_since IS NOT NULL THEN j.wait_reason END
FROM due WHERE j.id = due.id
RETURNING j.id
"""  # noqa: S608 - a constant

RESCUE = f"""
WITH lost AS (
    SELECT j.id, j.holder AS lost_holder, j.lease_until AS lost_at, COALESCE(d.job_id = j.id, false) AS is_culprit,
        CASE WHEN d.holder IS NULL OR d.job_id = j.id THEN 1
             WHEN d.job_id IS NULL AND (
                 SELECT count(*) FROM attempts a WHERE a.job_id = j.id AND a.outcome = 'worker_lost'
             ) >= :most_unexplained THEN 1
             ELSE 0 END AS deaths
    FROM jobs j LEFT JOIN process_deaths d
        ON d.holder = ANY (ARRAY[j.holder, regexp_replace(j.holder, ':[0-9]+$', '')])  -- the claim's number, if any
    WHERE j.state = 'running' AND j.lease_until < :asked_at
      AND pg_postmaster_start_time() < :asked_at - make_interval(secs => :renewal_seconds)
    ORDER BY j.lease_until LIMIT :most FOR UPDATE OF j SKIP LOCKED
), suspended AS (
    UPDATE attempts a SET state = 'suspense', outcome = 'worker_lost', cost_nano_usd = a.reserved_nano_usd,
        closed_at = clock_timestamp()
    FROM lost WHERE a.job_id = lost.id AND a.state = 'opened'
    RETURNING a.job_id, a.id AS attempt_id, a.state AS attempt_state, a.account, a.model, a.epoch, a.stamp,
        a.counters, a.reserved_tokens, a.reserved_nano_usd, a.opened_at
), rescued AS (
    UPDATE jobs j SET
        state = CASE WHEN j.synchronous OR j.deaths + lost.deaths >= :most_deaths THEN 'dead'
                     WHEN j.deaths + lost.deaths >= {SUSPECT_DEATHS} THEN 'waiting' ELSE 'queued' END,
        wait_reason = CASE WHEN j.deaths + lost.deaths >= {SUSPECT_DEATHS} AND NOT j.synchronous THEN 'suspect'
                           WHEN j.waiting_since IS NOT NULL THEN j.wait_reason END,
        wake_at = CASE WHEN j.deaths + lost.deaths >= {SUSPECT_DEATHS} AND NOT j.synchronous
                            AND j.deaths + lost.deaths < :most_deaths
                       THEN j.expires_at END,
        dead_reason = CASE WHEN j.synchronous THEN 'caller_lost'
                           WHEN j.deaths + lost.deaths >= :most_deaths THEN 'poison' END,
        message = CASE WHEN j.synchronous AND lost.is_culprit
                           THEN 'The process that was answering its caller died while it worked on this job.'
                       WHEN j.synchronous THEN 'The process that was answering its caller died.'
                       WHEN j.deaths + lost.deaths >= :most_deaths
                           THEN 'It never ended, neither among others nor alone.'
                       ELSE j.message END,
        rested_at = CASE WHEN j.synchronous OR j.deaths + lost.deaths >= :most_deaths THEN clock_timestamp() END,
        deaths = j.deaths + lost.deaths, generation = j.generation + 1, fence = j.fence + 1,
        holder = NULL, lease_until = NULL, dispatched_at = NULL
    FROM lost WHERE j.id = lost.id
    RETURNING j.id, j.state, lost.lost_holder, lost.lost_at
), deliveries AS (
    UPDATE pending_results p SET ready = true FROM rescued r WHERE p.job_id = r.id AND r.state = 'dead'
)
SELECT r.id AS rescued_id, r.lost_holder, r.lost_at, s.* FROM rescued r LEFT JOIN suspended s ON s.job_id = r.id
"""  # noqa: S608 - a constant

EXPIRE = """
WITH late AS (
    SELECT id FROM jobs WHERE state IN ('queued', 'waiting') AND expires_at <= statement_timestamp()
    ORDER BY expires_at LIMIT :most FOR UPDATE SKIP LOCKED
), expired AS (
    UPDATE jobs j SET state = 'expired', rested_at = clock_timestamp(), generation = j.generation + 1,
        dispatched_at = NULL, wake_at = NULL
    FROM late WHERE j.id = late.id
    RETURNING j.id
), deliveries AS (
    UPDATE pending_results p SET ready = true FROM expired e WHERE p.job_id = e.id
)
SELECT id FROM expired
"""

FORGET_LOST_MESSAGES = f"""
WITH lost AS (
    SELECT id FROM jobs
    WHERE state = 'queued' AND deaths < {SUSPECT_DEATHS}
      AND dispatched_at < statement_timestamp() - make_interval(secs => :lost_seconds)
      AND (CAST(:lanes AS text[]) IS NULL OR lane = ANY(CAST(:lanes AS text[])))
    LIMIT CAST(:most AS bigint) FOR UPDATE SKIP LOCKED
)
UPDATE jobs j SET dispatched_at = NULL FROM lost WHERE j.id = lost.id
RETURNING j.id
"""  # noqa: S608 - a constant

RENEWAL_SECONDS = 6.0
"""Delays rescue after Postgres starts, until live workers have renewed their leases."""

MOST_DEATHS = 8
"""Expired leases after which a job is given up without a seen death: it stalls its process for ever."""

MOST_UNEXPLAINED = 3
"""Unexplained deaths in mid-call that a job may survive: a crash inside a library's callback leaves no mark and would
recur for ever."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rescued:
    """Holds rescued jobs, and their attempts of unknown outcome."""

    jobs: frozenset[JobId]
    suspended: tuple[Unsettled, ...]
    holders: tuple[str, ...] = ()
    least_overdue_seconds: float = 0.0
    """How long the most recent of these leases had been expired."""


class DueTable(PostgresTable):
    """Moves due jobs."""

    async def stage_due(self) -> int:
        """Queue waiting jobs that are due, each under a new generation."""
        return await self._move(STAGE_DUE)

    async def rescue(self, asked_at: datetime, renewal_seconds: float = RENEWAL_SECONDS) -> Rescued:
        """Queue jobs with expired leases; their open attempts become unresolved.

        A death counts for the job whose step ran when its worker died, for every job of a worker without a report, and
        after `MOST_UNEXPLAINED` for one in mid-call. Suspects wait to run alone; synchronous jobs and those with
        `MOST_DEATHS` die.

        `asked_at` is Postgres's time from before: during a stall, live workers cannot renew either.
        """
        terms = {"most": MOST_PER_ROUND, "most_deaths": MOST_DEATHS, "most_unexplained": MOST_UNEXPLAINED}
        rows = await self._fetch_once(RESCUE, asked_at=asked_at, renewal_seconds=renewal_seconds, **terms)
        return Rescued(
            jobs=frozenset(JobId(row["rescued_id"]) for row in rows),
            suspended=tuple(unsettled_from(row) for row in rows if row["stamp"] is not None),
            holders=tuple(sorted({row["lost_holder"] for row in rows})),
            least_overdue_seconds=min(((asked_at - row["lost_at"]).total_seconds() for row in rows), default=0.0),
        )

    async def expire(self) -> int:
        """Expire queued and waiting jobs whose deadline passed."""
        return await self._move(EXPIRE)

    async def forget_lost_messages(
        self, lost_seconds: float = LOST_MESSAGE_SECONDS, lanes: Collection[Lane] | None = None
    ) -> int:
        """Mark old published, unclaimed jobs of these lanes (None: all) as unpublished."""
        named = None if lanes is None else [lane.value for lane in lanes]
        return await self._move(FORGET_LOST_MESSAGES, lost_seconds=lost_seconds, lanes=named)

    async def forget_all_messages(self) -> int:
        """Mark every published job as unpublished; the prefetch window bounds their number."""
        return len(await self._fetch_once(FORGET_LOST_MESSAGES, lost_seconds=0, lanes=None, most=None))

    async def _move(self, query: str, **parameters: Any) -> int:  # noqa: ANN401 - bind values
        return len(await self._fetch_once(query, most=MOST_PER_ROUND, **parameters))
