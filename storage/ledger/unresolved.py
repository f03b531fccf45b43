"""Lists unresolved charges, and resolves them at an operator's cost.

Invariants: compare-and-set resolves an attempt once. An operator's resolution is an entry of its own kind, even at
zero, and never repriced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from schemas.admission import Grant
from schemas.attempt import AttemptState, OpenedAttempt
from schemas.ids import AttemptId, JobId, TenantId
from schemas.money import ZERO, NanoUsd
from schemas.states import JobState
from storage.database.listings import ListedTable, page
from storage.database.mapping import read_as
from storage.database.statements import fetch
from storage.ledger.resolutions import resolve
from storage.rows import grant_from, opened_from

BY_OPERATOR = "operator"
"""Outcome and ledger kind of an attempt that an operator resolved."""

ATTEMPT = """
    a.id, a.job_id, a.fence, a.account, a.model, a.epoch, a.stamp, a.counters, a.reserved_tokens, a.reserved_nano_usd,
    a.price, NULL AS request, a.state, a.outcome, a.cost_nano_usd, a.opened_at, a.closed_at
"""
"""Leaves out request and reply, which may be megabytes."""

OLDEST = f"""
SELECT {ATTEMPT}, COALESCE(a.closed_at, a.opened_at) AS since_at, j.tenant_id, j.state AS job_state
FROM attempts a JOIN jobs j ON j.id = a.job_id
WHERE a.state = 'suspense'
  AND (CAST(:after AS text) IS NULL OR (a.opened_at, a.id) > (CAST(:after_at AS timestamptz), CAST(:after AS text)))
ORDER BY a.opened_at, a.id LIMIT :most
"""  # noqa: S608 - one constant inside another
OLDEST_CURSOR = "SELECT opened_at AS at FROM attempts WHERE id = :after"
"""Of any tenant, for operators."""

TOTALS = """
SELECT account, count(*) AS attempts, sum(reserved_nano_usd)::bigint AS nano_usd
FROM attempts WHERE state = 'suspense' GROUP BY account ORDER BY account
"""

LEFT_BEHIND = f"""
SELECT {ATTEMPT} FROM attempts a JOIN jobs j ON j.id = a.job_id
WHERE a.state = 'suspense' AND a.account = :account AND j.state IN ('completed', 'dead', 'expired', 'cancelled')
  AND EXISTS (
    SELECT FROM unnest(CAST(:afters AS timestamptz[]), CAST(:untils AS timestamptz[])) AS span (after, until)
    WHERE COALESCE(a.closed_at, a.opened_at) > span.after AND COALESCE(a.closed_at, a.opened_at) <= span.until)
  AND (CAST(:behind_id AS text) IS NULL
    OR (a.opened_at, a.id) > (CAST(:behind_at AS timestamptz), CAST(:behind_id AS text)))
ORDER BY a.opened_at, a.id LIMIT :most
"""  # noqa: S608 - the same

STANDS = f"SELECT {ATTEMPT} FROM attempts a WHERE a.id = :id"  # noqa: S608 - the same


@dataclass(frozen=True, kw_only=True, slots=True)
class SuspenseView:
    """Shows an unresolved charge, with its call's `outcome`."""

    id: AttemptId
    job_id: JobId
    job_state: JobState
    tenant_id: TenantId
    outcome: str | None
    grant: Grant
    opened_at: datetime
    since_at: datetime


@dataclass(frozen=True, slots=True)
class Span:
    """Bounds a period, without its first moment and with its last."""

    after: datetime
    until: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class SuspenseTotal:
    """Sums unresolved charges of one account."""

    account: str
    attempts: int
    nano_usd: NanoUsd


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedCharge:
    """Shows an attempt that an operator resolved."""

    state: AttemptState
    outcome: str | None
    cost_nano_usd: NanoUsd
    grant: Grant


class SuspenseTable(ListedTable):
    """Reads and resolves unresolved charges."""

    async def oldest(self, *, after: AttemptId | None = None, most: int = 50) -> list[SuspenseView]:
        """List unresolved charges, oldest first. Raises NotFound for an unknown cursor."""
        async with self._listings.transaction(None) as connection:
            rows = await page(connection, OLDEST, OLDEST_CURSOR, after=after, most=most)
        return [read_as(SuspenseView, row, grant=grant_from(row)) for row in rows]

    async def totals(self) -> list[SuspenseTotal]:
        """Sum by account; accounts without unresolved charges are missing."""
        return [read_as(SuspenseTotal, row) for row in await self._fetch_once(TOTALS)]

    async def left_behind(
        self, account: str, since: Sequence[Span], *, behind: OpenedAttempt | None = None, most: int = 50
    ) -> list[OpenedAttempt]:
        """Read a page of an account's charges of these spans, oldest first, after `behind`.

        Only of terminal jobs: others resolve their own.
        """
        rows = await self._fetch_once(
            LEFT_BEHIND,
            account=account,
            afters=[span.after for span in since],
            untils=[span.until for span in since],
            behind_at=behind and behind.opened_at,
            behind_id=behind and behind.id,
            most=most,
        )
        return [opened_from(row) for row in rows]

    async def resolve(self, attempt_id: AttemptId, billed_nano_usd: NanoUsd | None) -> ResolvedCharge | None:
        """Resolve a charge at what was billed, None for nothing; None for an unknown attempt.

        A charge resolved before is left unchanged.
        """
        state = AttemptState.RELEASED if billed_nano_usd is None else AttemptState.POSTED
        async with self._transaction() as connection:
            await resolve(connection, attempt_id, state, BY_OPERATOR, billed_nano_usd or ZERO)
            rows = await fetch(connection, STANDS, {"id": attempt_id})
        return read_as(ResolvedCharge, rows[0], grant=grant_from(rows[0])) if rows else None
