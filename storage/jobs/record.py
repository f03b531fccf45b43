"""Closes attempts, books their cost, and changes the states of their jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import assert_never

from sqlalchemy.ext.asyncio import AsyncEngine

from schemas.attempt import ClosedAttempt
from schemas.decision import AskAgain, Complete, DeadLetter, Decision, Expire, Park, RetryAt, WaitInPlace
from schemas.fingerprint import cause_of
from schemas.ids import JobId
from schemas.job import Lease
from storage.database.engine import dumps, transaction
from storage.database.mapping import values_of
from storage.database.statements import columns, fetch, run, unnested
from storage.rows import closed_parameters

LOCK_IN_ORDER = "SELECT id FROM jobs WHERE id = ANY(CAST(:id AS text[])) ORDER BY id FOR NO KEY UPDATE"

_CLOSED = """
    id text, state text, outcome text, cost_nano_usd bigint, booked_nano_usd bigint, usage text, reply text, error text,
    recovery text, complaint text, provider_request_id text, latency_ms int, closed_at timestamptz, tier text,
    price text, by_fence bigint"""

CLOSE = f"""
WITH given AS (
    SELECT * FROM {unnested(_CLOSED)}
), closed AS (
    UPDATE attempts a
    SET state = g.state,
        outcome = CASE WHEN g.state = 'released' OR (g.by_fence = j.fence AND j.state = 'running') THEN g.outcome
                       ELSE 'late' END, cost_nano_usd = g.cost_nano_usd, usage = g.usage::json,
        reply = g.reply::json, error = g.error::json, recovery = g.recovery, complaint = g.complaint,
        provider_request_id = g.provider_request_id, latency_ms = g.latency_ms, closed_at = g.closed_at,
        tier = g.tier, price = COALESCE(g.price::json, a.price)
    FROM given g JOIN attempts named ON named.id = g.id JOIN jobs j ON j.id = named.job_id
    WHERE a.id = g.id AND (a.state IN ('opened', 'suspense')
        OR (a.outcome IN ('late', 'post') AND g.by_fence = j.fence AND j.state = 'running'))
    RETURNING a.id, a.job_id, g.by_fence, a.account, a.model, a.outcome, a.tier, g.booked_nano_usd, g.closed_at
), booked AS (
    INSERT INTO ledger (attempt_id, kind, nano_usd, tenant_id, end_user, batch_id, account, model, at, lane, prompt,
        tier, cause)
    SELECT c.id, 'post', c.booked_nano_usd, j.tenant_id, j.end_user, j.batch_id, c.account, c.model, c.closed_at,
        j.lane, j.prompt, c.tier,
        CASE WHEN c.by_fence <> j.fence OR j.state <> 'running' THEN 'zombie'
             WHEN c.outcome = 'valid' THEN 'useful'
             WHEN c.outcome = 'invalid' THEN 'reprompt'
             WHEN c.outcome = 'truncated' THEN 'truncation'
             WHEN c.outcome = 'declined' THEN 'refused'
             ELSE 'trouble' END
    FROM closed c JOIN jobs j ON j.id = c.job_id
    WHERE c.booked_nano_usd IS NOT NULL
    ON CONFLICT (attempt_id, kind, seq) DO NOTHING
    RETURNING attempt_id, nano_usd
)
SELECT c.job_id, sum(b.nano_usd)::bigint AS nano_usd
FROM booked b JOIN closed c ON c.id = b.attempt_id GROUP BY c.job_id
"""  # noqa: S608 - a constant

SPEND = """
UPDATE jobs j SET spent_nano_usd = j.spent_nano_usd + g.nano_usd
FROM unnest(CAST(:id AS text[]), CAST(:nano_usd AS bigint[])) AS g (id, nano_usd) WHERE j.id = g.id
"""

_DECIDED = """
    id text, fence bigint, state text, wake_at timestamptz, reason text, message text, costs_try bool, reply text,
    output text, fingerprint text, cause text, note text, waiting_since timestamptz, booked bigint, served_by text"""

DECIDE = f"""
WITH given AS (
    SELECT * FROM {unnested(_DECIDED)}
), changed AS (
    UPDATE jobs j
    SET state = g.state,
        wake_at = g.wake_at,
        wait_reason = CASE WHEN g.state = 'waiting' THEN g.reason END,
        waiting_since = g.waiting_since,
        dead_reason = CASE WHEN g.state = 'dead' THEN g.reason END,
        fingerprint = g.fingerprint,
        cause = g.cause,
        spent_nano_usd = j.spent_nano_usd + g.booked,
        dead_nano_usd = CASE WHEN g.state = 'dead' THEN j.spent_nano_usd + g.booked END,
        message = COALESCE(g.message, j.message),
        tries = j.tries + CASE WHEN g.costs_try THEN 1 ELSE 0 END,
        holder = CASE WHEN g.state = 'running' THEN j.holder END,
        lease_until = CASE WHEN g.state = 'running' THEN j.lease_until END,
        dispatched_at = NULL,
        budget_steps = CASE WHEN g.note IS NULL OR g.note = j.budget_steps[cardinality(j.budget_steps)]
                            THEN j.budget_steps ELSE j.budget_steps || g.note END,
        rested_at = CASE WHEN g.state IN ('completed', 'dead', 'expired') THEN clock_timestamp() END
    FROM given g
    WHERE j.id = g.id AND j.fence = g.fence AND j.state = 'running'
    RETURNING j.id, j.fence
), results AS (
    INSERT INTO job_results (job_id, reply, output, served_by)
    SELECT g.id, g.reply::json, g.output::json, g.served_by
    FROM given g JOIN changed USING (id, fence) WHERE g.reply IS NOT NULL
    ON CONFLICT (job_id) DO NOTHING
), deliveries AS (
    UPDATE pending_results p SET ready = true
    FROM given g JOIN changed USING (id, fence)
    WHERE p.job_id = g.id AND g.state IN ('completed', 'dead', 'expired')
)
SELECT id, fence FROM changed
"""  # noqa: S608 - a constant


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """Holds one job's part of a group commit."""

    lease: Lease
    closed: ClosedAttempt | None
    decision: Decision


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionRow:
    """Holds the parameters of `DECIDE`. `booked` is the attempt's cost."""

    id: JobId
    fence: int
    booked: int
    state: str
    wake_at: datetime | None = None
    reason: str | None = None
    message: str | None = None
    costs_try: bool = False
    reply: str | None = None
    output: str | None = None
    fingerprint: str | None = None
    cause: str | None = None
    note: str | None = None
    waiting_since: datetime | None = None
    served_by: str | None = None


async def record(engine: AsyncEngine, records: Sequence[Record]) -> list[bool]:
    """Record outcomes; False where the fence was lost.

    A paused process may record one attempt twice at once: by its lost lease, and by the lease that found its reply.
    The later lease counts.
    """
    by_attempt = {
        entry.closed.id: closed_parameters(entry.closed) | {"by_fence": entry.lease.fence}
        for entry in sorted(records, key=lambda entry: entry.lease.fence)
        if entry.closed is not None
    }
    closed = list(by_attempt.values())
    async with transaction(engine) as connection:
        await run(connection, LOCK_IN_ORDER, {"id": [entry.lease.job_id for entry in records]})
        rows = await fetch(connection, CLOSE, columns(closed)) if closed else ()
        booked: dict[str, int] = {row["job_id"]: row["nano_usd"] for row in rows}
        decided = [
            values_of(decision_row(entry.lease, entry.decision, booked.get(entry.lease.job_id, 0))) for entry in records
        ]
        written = {(row["id"], row["fence"]) for row in await fetch(connection, DECIDE, columns(decided))}
        decided_jobs = {job_id for job_id, _ in written}
        lost = {job_id: nano_usd for job_id, nano_usd in booked.items() if job_id not in decided_jobs}
        if lost:
            await run(connection, SPEND, {"id": list(lost), "nano_usd": list(lost.values())})
    return [(entry.lease.job_id, entry.lease.fence) in written for entry in records]


def decision_row(lease: Lease, decision: Decision, booked: int) -> DecisionRow:
    """Return a decision's changes to its job."""
    row = partial(DecisionRow, id=lease.job_id, fence=lease.fence, booked=booked)
    match decision:
        case Complete(reply=reply, output=output, note=note):
            body = dumps(reply.body)
            return row(state="completed", reply=body, output=dumps(output), served_by=reply.model, note=note)
        case AskAgain(note=note):
            return row(state="running", note=note)
        case WaitInPlace(costs_try=costs_try, waiting_since=since):
            return row(state="running", costs_try=costs_try, waiting_since=since)
        case RetryAt(at=at, reason=reason):
            return row(state="waiting", wake_at=at, reason=reason, costs_try=True)
        case Park(until_at=until_at, reason=reason, waiting_since=since, note=note):
            return row(state="waiting", wake_at=until_at, reason=reason, waiting_since=since, note=note)
        case DeadLetter(reason=dead_reason, message=message, note=note):
            cause = cause_of(dead_reason.value, message)
            return row(
                state="dead",
                reason=dead_reason.value,
                message=message,
                fingerprint=cause.fingerprint,
                cause=cause.words,
                note=note,
            )
        case Expire():
            return row(state="expired")
        case _:
            assert_never(decision)
