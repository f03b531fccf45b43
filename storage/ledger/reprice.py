"""Reads attempts posted from a provider's usage, and books corrections.

Invariant: `post` and `reprice` entries sum to the cost under the last prices, so repeating adds nothing. Invoice
corrections (`adjust`) stay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from schemas.ids import AttemptId
from schemas.job import Target
from schemas.money import NanoUsd, Usage
from storage.database.mapping import read_as
from storage.database.statements import PostgresTable, fetch, run
from storage.rows import usage_from

MOST_PER_ROUND = 1_000
"""Attempts per transaction, which locks their jobs for some tens of milliseconds."""

POSTED = """
SELECT a.id, a.account, a.model, a.usage, a.opened_at, a.tier AS served,
    COALESCE(CASE WHEN strpos(a.request::text, '\\u0000') = 0 THEN a.request ->> 'service_tier' END,
             CASE WHEN strpos(b.body::text, '\\u0000') = 0 THEN b.body ->> 'service_tier' END, '') AS tier
FROM attempts a LEFT JOIN job_bodies b ON b.job_id = a.job_id
WHERE a.id > :after AND a.state = 'posted' AND a.usage IS NOT NULL AND a.opened_at >= :since
  AND (CAST(:model AS text) IS NULL OR a.model = :model)
ORDER BY a.id LIMIT :most
"""

LOCK_JOBS = """
SELECT id FROM jobs WHERE id IN (SELECT job_id FROM attempts WHERE id = ANY(CAST(:id AS text[])))
ORDER BY id FOR NO KEY UPDATE
"""

_DIFFERING = """
differing AS (
    SELECT a.id, a.job_id, a.account, a.model, a.tier, g.nano_usd - b.nano_usd AS nano_usd, b.next_seq, b.cause
    FROM unnest(CAST(:id AS text[]), CAST(:nano_usd AS bigint[])) AS g (id, nano_usd)
    JOIN attempts a ON a.id = g.id
    CROSS JOIN LATERAL (
        SELECT sum(l.nano_usd)::bigint AS nano_usd, min(l.cause) AS cause,
            COALESCE(max(l.seq) FILTER (WHERE l.kind = 'reprice') + 1, 0) AS next_seq
        FROM ledger l WHERE l.attempt_id = a.id AND l.kind IN ('post', 'reprice')
    ) b
    WHERE b.nano_usd <> g.nano_usd
)"""

DIFFER = f"WITH {_DIFFERING} SELECT id, nano_usd FROM differing"  # noqa: S608 - constants

CORRECT = f"""
WITH {_DIFFERING}, entries AS (
    INSERT INTO ledger (attempt_id, kind, seq, nano_usd, tenant_id, end_user, batch_id, account, model, at, lane,
        prompt, tier, cause)
    SELECT d.id, 'reprice', d.next_seq, d.nano_usd, j.tenant_id, j.end_user, j.batch_id, d.account, d.model,
        clock_timestamp(), j.lane, j.prompt, d.tier, d.cause
    FROM differing d JOIN jobs j ON j.id = d.job_id
    RETURNING attempt_id AS id, nano_usd
), spent AS (
    UPDATE jobs j SET spent_nano_usd = j.spent_nano_usd + s.nano_usd
    FROM (SELECT d.job_id, sum(d.nano_usd)::bigint AS nano_usd FROM differing d GROUP BY d.job_id) s
    WHERE j.id = s.job_id
)
SELECT id, nano_usd FROM entries
"""  # noqa: S608 - constants


@dataclass(frozen=True, kw_only=True, slots=True)
class PostedAttempt:
    """Holds an attempt to price again: requested `tier`, answered tier `served`."""

    id: AttemptId
    target: Target
    usage: Usage
    tier: str
    served: str | None
    opened_at: datetime


class RepriceTable(PostgresTable):
    """Reads posted attempts and corrects their cost."""

    async def posted(
        self, *, since: datetime, model: str | None, after: str, most: int = MOST_PER_ROUND
    ) -> list[PostedAttempt]:
        """Read the next attempts with a cost from usage, by id."""
        rows = await self._fetch_once(POSTED, since=since, model=model, after=after, most=most)
        return [
            read_as(PostedAttempt, row, target=read_as(Target, row), usage=usage_from(row["usage"])) for row in rows
        ]

    async def correct(self, costs: Mapping[AttemptId, NanoUsd], *, dry_run: bool) -> Sequence[NanoUsd]:
        """Book the differences to these costs, unless `dry_run`; returns those that are not zero."""
        parameters = {"id": list(costs), "nano_usd": list(costs.values())}
        async with self._transaction() as connection:
            if dry_run:
                rows = await fetch(connection, DIFFER, parameters)
            else:
                await run(connection, LOCK_JOBS, {"id": list(costs)})
                rows = await fetch(connection, CORRECT, parameters)
        return [NanoUsd(row["nano_usd"]) for row in rows]
