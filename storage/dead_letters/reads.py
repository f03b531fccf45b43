"""Reads dead letters: as listings, grouped by cause, or whole.

Pages read each tenant's indexes. Groups read every letter by `jobs_dead_by_cause`: a million take less than a second
(`bench/store/dead_letters.py`).
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.ids import JobId
from schemas.jsons import JsonObject
from schemas.money import NanoUsd
from schemas.replay import DeadLetters
from storage.database.listings import ListedTable, page
from storage.database.mapping import read_as, values_of
from storage.database.statements import Row, by_bytes, fetch
from storage.jobs.attempt_reads import AttemptView, attempt_text
from storage.jobs.reads import JobSummary

MOST_GROUPS = 1_000
"""More causes mean that some error text varies without end."""

PAGE_LETTERS = 100
"""Letters that an export finds at once; bodies are loaded in smaller groups."""

MAX_LETTER_BYTES = 16_000_000
"""Fits a megabyte of request and a dozen attempts. Larger letters are exported without attempts' bodies, so that the
line can be imported."""

MEANT = """
    j.state = 'dead' AND j.discarded_at IS NULL
  AND (CAST(:ids AS text[]) IS NULL OR j.id = ANY(CAST(:ids AS text[])))
  AND (CAST(:reason AS text) IS NULL OR j.dead_reason = :reason)
  AND (CAST(:fingerprint AS text) IS NULL OR j.fingerprint = :fingerprint)
  AND (CAST(:batch_id AS text) IS NULL OR j.batch_id = :batch_id)
  AND (CAST(:model AS text) IS NULL OR j.model = :model)
  AND (CAST(:prompt AS text) IS NULL OR j.prompt = :prompt)
  AND (CAST(:since_at AS timestamptz) IS NULL OR j.rested_at >= :since_at)
  AND (CAST(:until_at AS timestamptz) IS NULL OR j.rested_at < :until_at)
"""
"""Conditions of all queries over dead letters, except the tenant."""

OF_TENANT = "(CAST(:tenant_id AS text) IS NULL OR j.tenant_id = :tenant_id)"
EACH_TENANT = "(SELECT id FROM tenants WHERE CAST(:tenant_id AS text) IS NULL OR id = :tenant_id)"

NEWEST = f"""
SELECT p.*, (SELECT count(*) FROM attempts a WHERE a.job_id = p.id) AS attempts
FROM {EACH_TENANT} t CROSS JOIN LATERAL (
    SELECT j.id, j.tenant_id, j.batch_id, j.custom_id, j.lane, j.model, j.prompt, j.dead_reason AS reason,
        j.fingerprint, j.cause, j.message, j.tries, j.spent_nano_usd, j.created_at, j.rested_at
    FROM jobs j
    WHERE j.tenant_id = t.id AND {MEANT}
      AND (CAST(:after AS text) IS NULL
           OR (j.rested_at <= CAST(:after_at AS timestamptz)
               AND (j.rested_at < CAST(:after_at AS timestamptz) OR j.id > CAST(:after AS text))))
    ORDER BY j.rested_at DESC, j.id LIMIT :most
) p
ORDER BY p.rested_at DESC, p.id LIMIT :most
"""  # noqa: S608 - constants inside another

NEWEST_CURSOR = """
SELECT rested_at AS at FROM jobs
WHERE id = :after AND state = 'dead' AND (CAST(:tenant_id AS text) IS NULL OR tenant_id = :tenant_id)
"""

COUNT = f"SELECT count(*) AS jobs FROM jobs j WHERE {MEANT} AND {OF_TENANT}"  # noqa: S608 - the same

GROUPS = f"""
WITH counted AS MATERIALIZED (
    SELECT j.fingerprint, count(*) AS jobs, min(j.id COLLATE "C") AS example,
        COALESCE(sum(j.dead_nano_usd), 0)::bigint AS spent_nano_usd, max(j.rested_at) AS latest_at
    FROM jobs j WHERE {MEANT} AND {OF_TENANT}
    GROUP BY j.fingerprint ORDER BY jobs DESC, j.fingerprint LIMIT :most
)
SELECT c.*, e.dead_reason AS reason, e.cause, e.model FROM counted c JOIN jobs e ON e.id = c.example COLLATE "default"
ORDER BY c.jobs DESC, c.fingerprint
"""  # noqa: S608 - the same

SIZES = """
SELECT b.job_id, octet_length(b.body::text) + COALESCE((
    SELECT sum(COALESCE(octet_length(a.request::text), 0) + COALESCE(octet_length(a.reply::text), 0))
    FROM attempts a WHERE :attempts AND a.job_id = b.job_id), 0)::bigint AS bytes
FROM job_bodies b WHERE b.job_id = ANY(CAST(:ids AS text[]))
"""
WHOLE = """
SELECT j.id, j.endpoint, j.end_user AS "user", j.contract, j.max_tries, j.max_reprompts, j.max_cost_nano_usd,
    b.body::text AS body
FROM jobs j JOIN job_bodies b ON b.job_id = j.id WHERE j.id = ANY(CAST(:ids AS text[]))
"""
ATTEMPTS = """
SELECT id, job_id, account, model, state, outcome, cost_nano_usd, reserved_nano_usd, usage,
    CASE WHEN :content THEN request::text END AS request, CASE WHEN :content THEN reply::text END AS reply,
    error, recovery, complaint, provider_request_id, latency_ms, opened_at, closed_at
FROM attempts WHERE job_id = ANY(CAST(:ids AS text[])) ORDER BY job_id, opened_at, id
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetterView(JobSummary):
    """Shows a dead letter. `cause` is None until upkeep sets it."""

    prompt: str | None
    reason: str
    fingerprint: str | None
    cause: str | None
    attempts: int
    rested_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetterGroup:
    """Counts dead letters of one cause, with their cost at death."""

    fingerprint: str | None
    reason: str
    cause: str | None
    jobs: int
    example: JobId
    model: str
    latest_at: datetime
    spent_nano_usd: NanoUsd


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeLetter:
    """Holds a dead letter for export; `body` is JSON text.

    `is_cut` ones were too large, and their attempts lack bodies.
    """

    letter: DeadLetterView
    body: str
    endpoint: str
    user: str | None
    contract: JsonObject | None
    max_tries: int
    max_reprompts: int
    max_cost_nano_usd: NanoUsd | None
    attempts: tuple[AttemptView, ...]
    is_cut: bool = False


class DeadLetterReads(ListedTable):
    """Reads dead letters that are not discarded."""

    async def newest(
        self, which: DeadLetters, *, after: JobId | None = None, most: int = 50
    ) -> Sequence[DeadLetterView]:
        """List the latest dead first. Raises NotFound for another owner's cursor."""
        async with self._listings.transaction(which.tenant_id) as connection:
            rows = await page(connection, NEWEST, NEWEST_CURSOR, after=after, most=most, **conditions(which))
        return [read_as(DeadLetterView, row) for row in rows]

    async def groups(self, which: DeadLetters) -> Sequence[DeadLetterGroup]:
        """Group by cause, most frequent first."""
        async with self._listings.transaction(which.tenant_id) as connection:
            rows = await fetch(connection, GROUPS, conditions(which) | {"most": MOST_GROUPS})
        return [read_as(DeadLetterGroup, row) for row in rows]

    async def count(self, which: DeadLetters) -> int:
        """Count dead letters."""
        [row] = await self._fetch_once(COUNT, **conditions(which))
        return int(row["jobs"])

    async def whole(self, which: DeadLetters, *, attempts: bool = True) -> AsyncIterator[WholeLetter]:
        """Read letters with requests and, if `attempts`, attempts, the latest dead first."""
        last: DeadLetterView | None = None  # not its id, as it may be replayed while the next page is read
        while page := await self._next(which, last):
            last = page[-1]
            letters = {letter.id: letter for letter in page}
            rows = await self._fetch_once(SIZES, ids=list(letters), attempts=attempts)
            sizes = {row["job_id"]: row["bytes"] for row in rows}
            for ids in by_bytes({letter.id: sizes[letter.id] for letter in page if letter.id in sizes}):
                is_cut = sizes[ids[0]] > MAX_LETTER_BYTES
                for row, own in await self._texts(ids, attempts=attempts, content=not is_cut):
                    yield read_as(WholeLetter, row, letter=letters[row["id"]], attempts=own, is_cut=is_cut)

    async def _next(self, which: DeadLetters, last: DeadLetterView | None) -> Sequence[DeadLetterView]:
        after, after_at = (None, None) if last is None else (last.id, last.rested_at)
        place = {"after": after, "after_at": after_at, "most": PAGE_LETTERS}
        rows = await self._fetch_once(NEWEST, **conditions(which), **place)
        return [read_as(DeadLetterView, row) for row in rows]

    async def _texts(
        self, ids: Sequence[str], *, attempts: bool, content: bool
    ) -> list[tuple[Row, tuple[AttemptView, ...]]]:
        async with self._transaction() as connection:
            rows = {row["id"]: row for row in await fetch(connection, WHOLE, {"ids": ids})}
            terms = {"ids": ids, "content": content}
            parts = await fetch(connection, ATTEMPTS, terms) if attempts else ()
        views = [(part["job_id"], attempt_text(part)) for part in parts]
        return [(rows[name], tuple(view for of, view in views if of == name)) for name in ids if name in rows]


def conditions(which: DeadLetters) -> dict[str, Any]:
    """Return bind values of `MEANT` and of the tenant."""
    return values_of(which) | {"ids": None if which.ids is None else list(which.ids)}
