"""The writes of a job's life: insert, hold, open, record, heartbeat, cancel. Each is one statement for many jobs.

Invariants: every write after `hold` names the fence; a write whose fence has passed changes no job and no result, but
its cost is still booked, so that the ledger equals the bill. And locks on many jobs are taken in the order of their
ids, jobs before attempts, so that heartbeats, records, claims and cancellations never wait for each other in a circle.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, assert_never

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from schemas.accepted import Submission
from schemas.attempt import ClosedAttempt, OpenedAttempt
from schemas.decision import AskAgain, Complete, DeadLetter, Decision, Expire, Park, RetryAt
from schemas.errors import IdempotencyConflict
from schemas.fingerprint import cause_of
from schemas.ids import AttemptId, JobId, TenantId
from schemas.job import Lease, LeasedJob, NewJob
from schemas.jsons import JsonObject
from schemas.lanes import PUBLISHED_BY_INTAKE
from schemas.states import JobState
from storage.database.engine import dumps, transaction
from storage.database.notify import ring
from storage.database.statements import columns, fetch, run
from storage.jobs.hand_back import hand_back, suspended
from storage.queue.controls import STOPPED
from storage.rows import accepted_from, closed_parameters, job_from, opened_parameters, parameters_of

INSERT_NEW = """
WITH given AS (
    SELECT * FROM unnest(
        CAST(:id AS text[]), CAST(:tenant_id AS text[]), CAST(:batch_id AS text[]), CAST(:custom_id AS text[]),
        CAST(:lane AS text[]), CAST(:model AS text[]), CAST(:endpoint AS text[]), CAST(:end_user AS text[]),
        CAST(:expires_at AS timestamptz[]), CAST(:max_tries AS int[]), CAST(:max_reprompts AS int[]),
        CAST(:max_cost_nano_usd AS bigint[]), CAST(:idempotency_key AS text[]), CAST(:request_digest AS text[]),
        CAST(:contract AS text[]), CAST(:body AS text[]), CAST(:prompt AS text[]),
        CAST(:work_tokens AS int[])
    ) AS g (id, tenant_id, batch_id, custom_id, lane, model, endpoint, end_user, expires_at, max_tries,
            max_reprompts, max_cost_nano_usd, idempotency_key, request_digest, contract, body, prompt,
            work_tokens)
), stored AS (
    INSERT INTO jobs (id, tenant_id, batch_id, custom_id, lane, model, endpoint, end_user, state, expires_at,
        max_tries, max_reprompts, max_cost_nano_usd, idempotency_key, request_digest, contract, prompt,
        work_tokens, fence, holder, lease_until, synchronous, wait_reason)
    SELECT id, tenant_id, batch_id, custom_id, lane, model, endpoint, end_user, CAST(:state AS text), expires_at,
        max_tries, max_reprompts, max_cost_nano_usd, idempotency_key, request_digest, contract::json, prompt,
        work_tokens, CASE WHEN CAST(:holder AS text) IS NULL THEN 0 ELSE 1 END, :holder,
        CASE WHEN CAST(:holder AS text) IS NULL THEN NULL
             ELSE clock_timestamp() + make_interval(secs => :lease_seconds) END,
        CAST(:holder AS text) IS NOT NULL, CASE WHEN CAST(:state AS text) = 'waiting' THEN 'canary' END
    FROM given
    ON CONFLICT (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id, state, generation, lane, created_at, lease_until
), bodies AS (
    INSERT INTO job_bodies (job_id, body) SELECT id, given.body::json FROM given JOIN stored USING (id)
)
SELECT * FROM stored
"""

NAMED_BEFORE = """
SELECT j.id, j.state, j.generation, j.lane, j.tenant_id, j.idempotency_key, j.request_digest
FROM jobs j JOIN unnest(CAST(:tenant_id AS text[]), CAST(:idempotency_key AS text[])) AS g (tenant_id, key)
  ON j.tenant_id = g.tenant_id AND j.idempotency_key = g.key
"""

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

RENEW = """
WITH held AS (
    SELECT j.id, g.fence
    FROM jobs j JOIN unnest(CAST(:id AS text[]), CAST(:fence AS bigint[])) AS g (id, fence) ON j.id = g.id
    WHERE j.fence = g.fence AND j.state = 'running'
    ORDER BY j.id FOR NO KEY UPDATE OF j
)
UPDATE jobs j SET lease_until = clock_timestamp() + make_interval(secs => :lease_seconds)
FROM held h
WHERE j.id = h.id AND j.fence = h.fence AND j.state = 'running'
RETURNING j.id
"""

LOCK_IN_ORDER = "SELECT id FROM jobs WHERE id = ANY(CAST(:id AS text[])) ORDER BY id FOR NO KEY UPDATE"

OPENED_WITHIN_SECONDS = 300.0
"""How old a grant may be when its attempt is opened. Well below the gate's lifetime of a reservation (660 s): one that
ran out without a row is given back, and a row that came after that would be sent without reserved money."""

CURRENT_EPOCH = "SELECT epoch FROM ledger_epoch FOR SHARE"

OPEN = """
INSERT INTO attempts (id, job_id, fence, account, model, epoch, stamp, counters, reserved_tokens,
    reserved_nano_usd, price, request, state, opened_at)
SELECT g.id, g.job_id, g.fence, g.account, g.model, g.epoch, g.stamp, g.counters::json, g.reserved_tokens,
    g.reserved_nano_usd, g.price::json, g.request::json, 'opened', g.opened_at
FROM unnest(
    CAST(:id AS text[]), CAST(:job_id AS text[]), CAST(:fence AS bigint[]), CAST(:account AS text[]),
    CAST(:model AS text[]), CAST(:epoch AS bigint[]), CAST(:stamp AS text[]), CAST(:counters AS text[]),
    CAST(:reserved_tokens AS bigint[]), CAST(:reserved_nano_usd AS bigint[]), CAST(:price AS text[]),
    CAST(:request AS text[]), CAST(:opened_at AS timestamptz[])
) AS g (id, job_id, fence, account, model, epoch, stamp, counters, reserved_tokens, reserved_nano_usd, price,
        request, opened_at)
JOIN jobs j ON j.id = g.job_id AND j.fence = g.fence AND j.state = 'running'
WHERE g.epoch = :current_epoch
  AND (g.opened_at > clock_timestamp() - make_interval(secs => :within_seconds)
       OR (SELECT a.id FROM attempts a WHERE a.id = g.id) IS NOT NULL)
ON CONFLICT (id) DO UPDATE SET fence = EXCLUDED.fence
    WHERE attempts.job_id = EXCLUDED.job_id AND attempts.fence = EXCLUDED.fence AND attempts.state = 'opened'
RETURNING id
"""

CLOSE = """
WITH given AS (
    SELECT * FROM unnest(
        CAST(:id AS text[]), CAST(:state AS text[]), CAST(:outcome AS text[]), CAST(:cost_nano_usd AS bigint[]),
        CAST(:booked_nano_usd AS bigint[]), CAST(:usage AS text[]), CAST(:reply AS text[]), CAST(:error AS text[]),
        CAST(:recovery AS text[]), CAST(:complaint AS text[]), CAST(:provider_request_id AS text[]),
        CAST(:latency_ms AS int[]), CAST(:closed_at AS timestamptz[]), CAST(:tier AS text[]),
        CAST(:price AS text[]), CAST(:by_fence AS bigint[])
    ) AS g (id, state, outcome, cost_nano_usd, booked_nano_usd, usage, reply, error, recovery, complaint,
            provider_request_id, latency_ms, closed_at, tier, price, by_fence)
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
        OR (a.outcome = 'late' AND g.by_fence = j.fence AND j.state = 'running'))
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
"""

SPEND = """
UPDATE jobs j SET spent_nano_usd = j.spent_nano_usd + g.nano_usd
FROM unnest(CAST(:id AS text[]), CAST(:nano_usd AS bigint[])) AS g (id, nano_usd) WHERE j.id = g.id
"""

DECIDE = """
WITH given AS (
    SELECT * FROM unnest(
        CAST(:id AS text[]), CAST(:fence AS bigint[]), CAST(:state AS text[]), CAST(:wake_at AS timestamptz[]),
        CAST(:reason AS text[]), CAST(:message AS text[]), CAST(:costs_try AS bool[]), CAST(:reply AS text[]),
        CAST(:output AS text[]), CAST(:fingerprint AS text[]), CAST(:cause AS text[]), CAST(:note AS text[]),
        CAST(:waiting_since AS timestamptz[]), CAST(:booked AS bigint[]), CAST(:served_by AS text[])
    ) AS g (id, fence, state, wake_at, reason, message, costs_try, reply, output, fingerprint, cause, note,
            waiting_since, booked, served_by)
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
    RETURNING j.id
), results AS (
    INSERT INTO job_results (job_id, reply, output, served_by)
    SELECT g.id, g.reply::json, g.output::json, g.served_by
    FROM given g JOIN changed USING (id) WHERE g.reply IS NOT NULL
    ON CONFLICT (job_id) DO NOTHING
), deliveries AS (
    UPDATE pending_results p SET ready = true
    FROM given g JOIN changed USING (id)
    WHERE p.job_id = g.id AND g.state IN ('completed', 'dead', 'expired')
)
SELECT id FROM changed
"""

CANCEL = """
UPDATE jobs SET state = 'cancelled', rested_at = clock_timestamp(), holder = NULL, lease_until = NULL,
    generation = generation + 1, fence = fence + 1
WHERE id = :id AND (CAST(:tenant_id AS text) IS NULL OR tenant_id = :tenant_id)
  AND state IN ('queued', 'running', 'waiting')
RETURNING id
"""

MARK_DISPATCHED = """
WITH published AS (
    SELECT id FROM jobs WHERE id = ANY(CAST(:id AS text[])) AND state = 'queued' ORDER BY id FOR NO KEY UPDATE
)
UPDATE jobs j SET dispatched_at = clock_timestamp() FROM published p WHERE j.id = p.id AND j.state = 'queued'
"""


class Claim(NamedTuple):
    """A job of a message. Whoever has not heard the answer asks again under the same name, and under no other."""

    job_id: JobId
    generation: int
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One job's part of a group commit."""

    lease: Lease
    closed: ClosedAttempt | None
    decision: Decision


class JobTable:
    """Writes of many jobs at once; results are in the order of what was given."""

    def __init__(self, engine: AsyncEngine, *, holder: str, lease_seconds: float) -> None:
        self._engine = engine
        self._holder = holder
        self._lease_seconds = lease_seconds

    async def insert(self, jobs: Sequence[NewJob], *, held: bool = False) -> list[Submission]:
        """Store jobs, idempotently by (tenant, key). Raises IdempotencyConflict, and then stores none of them.

        Those that are held wait for what the canary of their batch says (`storage.batches.stop_losses`).
        """
        state = JobState.WAITING if held else JobState.QUEUED
        async with transaction(self._engine) as connection:
            stored = await self._insert(connection, jobs, state, holder=None)
            named = await self._named_before(connection, [job for job in jobs if job.id not in stored])
            if any(job.lane not in PUBLISHED_BY_INTAKE for job in jobs):
                await ring(connection)
        return [
            accepted_from(stored[job.id], repeated=False)
            if job.id in stored
            else named[job.tenant_id, job.idempotency_key]
            for job in jobs
        ]

    async def insert_running(self, job: NewJob) -> LeasedJob | Submission:
        """Store a job that is born running in this process. Raises IdempotencyConflict."""
        async with transaction(self._engine) as connection:
            stored = await self._insert(connection, [job], JobState.RUNNING, holder=self._holder)
            if job.id not in stored:
                named = await self._named_before(connection, [job])
                return named[job.tenant_id, job.idempotency_key]
        row = dict(stored[job.id])
        given = parameters_of(job) | {"body": job.body, "contract": None}
        facts = given | row | {"fence": 1, "tries": 0, "spent_nano_usd": 0, "waiting_since": None, "wait_reason": None}
        held = self._held(facts)
        return LeasedJob(job=replace(held.job, contract=job.contract), lease=held.lease)

    async def named_by_key(self, job: NewJob) -> Submission | None:
        """The stored job that has the idempotency key of this one. Raises IdempotencyConflict."""
        if job.idempotency_key is None:
            return None
        async with transaction(self._engine) as connection:
            named = await self._named_before(connection, [job])
        return named.get((job.tenant_id, job.idempotency_key))

    async def hold(self, claims: Sequence[Claim | tuple[JobId, int]]) -> list[LeasedJob | None]:
        """Take jobs by compare-and-set on generation and state; None for what is taken, stale, stopped or at rest.

        A claim with a name may be repeated: what it has taken already is the same lease, renewed.
        """
        named = [Claim(*claim) for claim in claims]
        terms = {"holder": self._holder, "lease_seconds": self._lease_seconds}
        wanted = {
            "id": [claim.job_id for claim in named],
            "generation": [claim.generation for claim in named],
            "claim": [claim.name and f"{self._holder}:{claim.name}" for claim in named],
        }
        async with transaction(self._engine) as connection:
            rows = await fetch(connection, HOLD, wanted | terms)
            held = {row["id"]: self._held(row) for row in rows}  # a row that cannot be read takes its claim back
        return [held.pop(claim.job_id, None) for claim in named]

    async def renew(self, leases: Sequence[Lease]) -> Collection[JobId]:
        """Extend leases; returns the ids that are still held."""
        parameters = {
            "id": [lease.job_id for lease in leases],
            "fence": [lease.fence for lease in leases],
            "lease_seconds": self._lease_seconds,
        }
        async with transaction(self._engine) as connection:
            rows = await fetch(connection, RENEW, parameters)
        return {JobId(row["id"]) for row in rows}

    async def open(self, attempts: Sequence[OpenedAttempt]) -> list[bool]:
        """Make attempts durable under the current epoch; False where the epoch, the fence or the time to has passed.

        Safe to call twice: whoever did not hear that it was committed may ask again.
        """
        async with transaction(self._engine) as connection:
            [epoch] = await fetch(connection, CURRENT_EPOCH, {})
            parameters = columns([opened_parameters(attempt) for attempt in attempts])
            terms = {"current_epoch": epoch["epoch"], "within_seconds": OPENED_WITHIN_SECONDS}
            rows = await fetch(connection, OPEN, parameters | terms)
        opened = {AttemptId(row["id"]) for row in rows}
        return [attempt.id in opened for attempt in attempts]

    async def record(self, records: Sequence[Record]) -> list[bool]:
        """Close attempts, book costs and change states in one transaction; False where the fence was lost."""
        closed = [
            closed_parameters(record.closed) | {"by_fence": record.lease.fence}
            for record in records
            if record.closed is not None
        ]
        async with transaction(self._engine) as connection:
            await run(connection, LOCK_IN_ORDER, {"id": [record.lease.job_id for record in records]})
            rows = await fetch(connection, CLOSE, columns(closed)) if closed else ()
            booked: dict[str, int] = {row["job_id"]: row["nano_usd"] for row in rows}
            decided = [
                _decision_parameters(record.lease, record.decision) | {"booked": booked.get(record.lease.job_id, 0)}
                for record in records
            ]
            kept = {row["id"] for row in await fetch(connection, DECIDE, columns(decided))}
            lost = {job_id: nano_usd for job_id, nano_usd in booked.items() if job_id not in kept}
            if lost:
                await run(connection, SPEND, {"id": list(lost), "nano_usd": list(lost.values())})
        return [record.lease.job_id in kept for record in records]

    async def suspended(self, job_id: JobId) -> list[OpenedAttempt]:
        """The job's attempts whose end nobody knows, the latest first."""
        return await suspended(self._engine, job_id)

    async def hand_back(self, leases: Sequence[Lease]) -> list[bool]:
        """Give up leases at once, without a death; False where the lease was lost."""
        return await hand_back(self._engine, leases)

    async def cancel(self, job_id: JobId, tenant_id: TenantId | None) -> bool:
        """Cancel a job that is not at rest; a tenant of None is the operator's."""
        async with transaction(self._engine) as connection:
            return bool(await fetch(connection, CANCEL, {"id": job_id, "tenant_id": tenant_id}))

    async def mark_dispatched(self, job_ids: Sequence[JobId]) -> None:
        """Count these jobs as published."""
        async with transaction(self._engine) as connection:
            await run(connection, MARK_DISPATCHED, {"id": list(job_ids)})

    async def _insert(
        self, connection: AsyncConnection, jobs: Sequence[NewJob], state: JobState, *, holder: str | None
    ) -> dict[str, Any]:
        terms = {"state": state.value, "holder": holder, "lease_seconds": self._lease_seconds}
        rows = await fetch(connection, INSERT_NEW, columns([parameters_of(job) for job in jobs]) | terms)
        return {row["id"]: row for row in rows}

    async def _named_before(
        self, connection: AsyncConnection, jobs: Sequence[NewJob]
    ) -> dict[tuple[str, str | None], Submission]:
        if not jobs:
            return {}
        keys = {
            "tenant_id": [job.tenant_id for job in jobs],
            "idempotency_key": [job.idempotency_key for job in jobs],
        }
        rows = await fetch(connection, NAMED_BEFORE, keys)
        found = {(row["tenant_id"], row["idempotency_key"]): row for row in rows}
        for job in jobs:
            row = found.get((job.tenant_id, job.idempotency_key))
            if row is not None and unpatched(row["request_digest"]) != job.request_digest:
                raise IdempotencyConflict(
                    f"The idempotency key {job.idempotency_key!r} was used before with another request.",
                    param="idempotency_key",
                )
        return {key: accepted_from(row, repeated=True) for key, row in found.items()}

    def _held(self, row: Any) -> LeasedJob:  # noqa: ANN401 - a row
        job = job_from(row)
        until_at: datetime = row["lease_until"]
        lease = Lease(job_id=job.id, fence=job.fence, holder=self._holder, until_at=until_at.astimezone(UTC))
        return LeasedJob(job=job, lease=lease)


def unpatched(request_digest: str) -> str:
    """The digest of what the caller sent; a replay that changed the request has written its mark before it."""
    return request_digest.rpartition(":")[2]


def _decision_parameters(lease: Lease, decision: Decision) -> JsonObject:
    blank: JsonObject = {"wake_at": None, "reason": None, "message": None, "costs_try": False}
    blank |= {"waiting_since": None}
    told = blank | {"id": lease.job_id, "fence": lease.fence, "reply": None, "output": None}
    told |= {"served_by": None, "fingerprint": None, "cause": None, "note": None}
    if isinstance(decision, Complete | AskAgain | Park | DeadLetter):
        told["note"] = decision.note
    match decision:
        case Complete(reply=reply, output=output):
            result = {"reply": dumps(reply.body), "output": dumps(output), "served_by": reply.model}
            return told | result | {"state": "completed"}
        case AskAgain(costs_try=costs_try, waiting_since=since):
            return told | {"state": "running", "costs_try": costs_try, "waiting_since": since}
        case RetryAt(at=at, reason=reason):
            return told | {"state": "waiting", "wake_at": at, "reason": reason, "costs_try": True}
        case Park(until_at=until_at, reason=reason, waiting_since=since):
            return told | {"state": "waiting", "wake_at": until_at, "reason": reason, "waiting_since": since}
        case DeadLetter(reason=reason, message=message):
            cause = cause_of(reason.value, message)
            named = {"fingerprint": cause.fingerprint, "cause": cause.words}
            return told | named | {"state": "dead", "reason": reason.value, "message": message}
        case Expire():
            return told | {"state": "expired"}
        case _:
            assert_never(decision)
