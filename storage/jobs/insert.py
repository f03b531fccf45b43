"""Inserts jobs, idempotently by tenant and key."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.accepted import Submission
from schemas.errors import IdempotencyConflict
from schemas.job import NewJob
from schemas.states import JobState
from storage.database.statements import columns, fetch, unnested
from storage.rows import NEW_JOB, accepted_from, parameters_of

INSERT_NEW = f"""
WITH given AS (
    SELECT * FROM {unnested(NEW_JOB)}
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
"""  # noqa: S608 - a constant

NAMED_BEFORE = """
SELECT j.id, j.state, j.generation, j.lane, j.tenant_id, j.idempotency_key, j.request_digest
FROM jobs j JOIN unnest(CAST(:tenant_id AS text[]), CAST(:idempotency_key AS text[])) AS g (tenant_id, key)
  ON j.tenant_id = g.tenant_id AND j.idempotency_key = g.key
"""


async def insert_rows(
    connection: AsyncConnection, jobs: Sequence[NewJob], state: JobState, *, holder: str | None, lease_seconds: float
) -> dict[str, Any]:
    """Insert jobs, claimed by `holder` if given; returns the new rows by id."""
    terms = {"state": state.value, "holder": holder, "lease_seconds": lease_seconds}
    rows = await fetch(connection, INSERT_NEW, columns([parameters_of(job) for job in jobs]) | terms)
    return {row["id"]: row for row in rows}


async def submitted_before(
    connection: AsyncConnection, jobs: Sequence[NewJob]
) -> dict[tuple[str, str | None], Submission]:
    """Find stored jobs with these idempotency keys. Raises IdempotencyConflict."""
    if not jobs:
        return {}
    keys = {"tenant_id": [job.tenant_id for job in jobs], "idempotency_key": [job.idempotency_key for job in jobs]}
    rows = await fetch(connection, NAMED_BEFORE, keys)
    stored = {(row["tenant_id"], row["idempotency_key"]): row for row in rows}
    for job in jobs:
        row = stored.get((job.tenant_id, job.idempotency_key))
        if row is not None and unpatched(row["request_digest"]) != job.request_digest:
            raise IdempotencyConflict(
                f"The idempotency key {job.idempotency_key!r} was used before with another request.",
                param="idempotency_key",
            )
    return {key: accepted_from(row, repeated=True) for key, row in stored.items()}


def unpatched(request_digest: str) -> str:
    """Return the digest without the prefix of a replay's patch."""
    return request_digest.rpartition(":")[2]
