"""Reads and corrects money in Postgres.

Invariants: ledger rows are never changed or deleted, so a balance is a sum. A state test closes an attempt once.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.attempt import AttemptState, SettledEnd, Unsettled
from schemas.ids import AttemptId
from schemas.money import NanoUsd
from storage.database.mapping import read_as
from storage.database.statements import PostgresTable, Row, fetch, run
from storage.ledger.counted_scope import SCOPE_OF_TENANT
from storage.ledger.resolutions import resolve
from storage.rows import grant_from, unsettled_from

MOST_PER_ROUND = 1_000
ORPHANED_AFTER_SECONDS = 900.0
"""A worker that lost its job may close the attempt until then; after that it becomes an unresolved charge."""

EPOCH = "SELECT epoch FROM ledger_epoch"

RAISE_EPOCH = """
WITH carried AS (UPDATE tenant_ledger_seal SET counters_carried = true)
UPDATE ledger_epoch SET epoch = epoch + 1 RETURNING epoch
"""

COUNTERS_CARRIED = "SELECT counters_carried FROM tenant_ledger_seal"

SEALED_TO = "SELECT sealed_to FROM tenant_ledger_seal"
"""Read before the sums: as a value it tells the planner how few entries lie beyond."""

SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"

BALANCES = f"""
WITH parts AS (
    SELECT {SCOPE_OF_TENANT} AS scope, c.item ->> 1 AS time_window, l.nano_usd AS settled, 0 AS reserved
    FROM ledger l JOIN attempts a ON a.id = l.attempt_id CROSS JOIN LATERAL json_array_elements(a.counters) AS c (item)
    WHERE l.id > :sealed_to AND l.at >= :since
    UNION ALL
    SELECT c.item ->> 0, c.item ->> 1, 0, a.reserved_nano_usd
    FROM attempts a CROSS JOIN LATERAL json_array_elements(a.counters) AS c (item)
    WHERE a.state IN ('opened', 'suspense')
    UNION ALL
    SELECT COALESCE(long_scope, scope), time_window, nano_usd, 0 FROM tenant_sealed_sums WHERE last_at >= :since
)
SELECT scope, time_window AS "window", LEAST(sum(settled), 9223372036854775807)::bigint AS settled_nano_usd,
    LEAST(sum(reserved), 9223372036854775807)::bigint AS reserved_nano_usd
FROM parts GROUP BY 1, 2
"""  # noqa: S608 - constants inside another
"""Reserved money counts under its stamp's scope, by which Redis settles it."""

AUDITED = f"""
WITH parts AS (
    SELECT {SCOPE_OF_TENANT} AS scope, c.item ->> 1 AS time_window, l.nano_usd,
        CASE WHEN l.at < :before THEN l.nano_usd ELSE 0 END AS before
    FROM ledger l JOIN attempts a ON a.id = l.attempt_id CROSS JOIN LATERAL json_array_elements(a.counters) AS c (item)
    WHERE l.id > :sealed_to AND l.at >= :since AND c.item ->> 1 = ANY(CAST(:windows AS text[]))
    UNION ALL
    SELECT COALESCE(long_scope, scope), time_window, nano_usd, nano_usd FROM tenant_sealed_sums
    WHERE time_window = ANY(CAST(:windows AS text[]))
)
SELECT scope, time_window AS "window", LEAST(sum(nano_usd), 9223372036854775807)::bigint AS settled_nano_usd,
    LEAST(sum(before), 9223372036854775807)::bigint AS settled_before_nano_usd
FROM parts GROUP BY 1, 2
"""  # noqa: S608 - constants inside another

OPEN_BEFORE = "SELECT id FROM attempts WHERE state IN ('opened', 'suspense') AND opened_at < :before"

_RESERVED = """
SELECT id AS attempt_id, job_id, state AS attempt_state, account, model, epoch, stamp, counters, reserved_tokens,
    reserved_nano_usd, opened_at
FROM attempts"""

UNSETTLED = f"{_RESERVED} WHERE state IN ('opened', 'suspense') ORDER BY state, opened_at"

SUSPENSE = f"""{_RESERVED}
WHERE state = 'suspense' AND opened_at < statement_timestamp() - make_interval(secs => :older_seconds)
ORDER BY opened_at LIMIT :most
"""

ENDS = """
SELECT id, state, account, model, epoch, stamp, counters, reserved_tokens, reserved_nano_usd, cost_nano_usd, usage
FROM attempts WHERE id = ANY(CAST(:ids AS text[]))
"""

SUSPEND_ORPHANS = """
WITH orphans AS (
    SELECT a.id FROM attempts a JOIN jobs j ON j.id = a.job_id
    WHERE a.state = 'opened' AND a.opened_at < statement_timestamp() - make_interval(secs => :older_seconds)
      AND (j.fence <> a.fence OR j.state <> 'running')
    ORDER BY a.opened_at LIMIT :most FOR UPDATE OF a SKIP LOCKED
)
UPDATE attempts a SET state = 'suspense', outcome = 'worker_lost', cost_nano_usd = a.reserved_nano_usd,
    closed_at = clock_timestamp()
FROM orphans o WHERE a.id = o.id
RETURNING a.id
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """Holds spent and reserved money; unresolved charges count as reserved."""

    scope: str
    window: str
    settled_nano_usd: NanoUsd
    reserved_nano_usd: NanoUsd


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditedSum:
    """Holds a scope's spend in a window, up to now and up to a moment before Redis was read."""

    scope: str
    window: str
    settled_nano_usd: NanoUsd
    settled_before_nano_usd: NanoUsd


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditedLedger:
    """Holds one snapshot to compare with Redis. `ends` are of the requested attempts."""

    sums: Sequence[AuditedSum]
    open_before: frozenset[AttemptId]
    ends: dict[AttemptId, SettledEnd]


@dataclass(frozen=True, kw_only=True, slots=True)
class RebuiltLedger:
    """Holds one snapshot under a new epoch. `unsettled` are the reservations to carry."""

    epoch: int
    balances: Sequence[Balance]
    unsettled: Sequence[Unsettled]


class LedgerTable(PostgresTable):
    """Reads the ledger for rebuilds, and corrects it; `JobTable.record` writes usual entries."""

    async def epoch(self) -> int:
        """Read the current epoch; grants of others may not be sent."""
        [row] = await self._fetch_once(EPOCH)
        return int(row["epoch"])

    async def counters_carried(self) -> bool:
        """Tell whether Redis was rebuilt since users and prompts are counted per tenant."""
        [row] = await self._fetch_once(COUNTERS_CARRIED)
        return bool(row["counters_carried"])

    async def rebuild(self, since: datetime) -> RebuiltLedger:
        """Raise the epoch and read the ledger under it; windows without entries since then may be missing.

        This waits for opens under the old epoch, so the snapshot is complete. The caller sets the epoch key of Redis
        last.
        """
        [raised] = await self._fetch_once(RAISE_EPOCH)
        async with self._transaction() as connection:
            await run(connection, SNAPSHOT, {})
            balances = await fetch(connection, BALANCES, {"since": since} | await _sealed_to(connection))
            unsettled = await fetch(connection, UNSETTLED, {})
        return RebuiltLedger(
            epoch=raised["epoch"],
            balances=[read_as(Balance, row) for row in balances],
            unsettled=[unsettled_from(row) for row in unsettled],
        )

    async def audited(
        self, attempt_ids: Sequence[AttemptId], *, windows: Collection[str], since: datetime, before: datetime
    ) -> AuditedLedger:
        """Read sums, attempts open before a moment, and ends of attempts in one snapshot.

        `since` is at or before the start of the earliest window.
        """
        async with self._transaction() as connection:
            await run(connection, SNAPSHOT, {})
            terms = {"windows": list(windows), "since": since, "before": before}
            sums = await fetch(connection, AUDITED, terms | await _sealed_to(connection))
            open_before = await fetch(connection, OPEN_BEFORE, {"before": before})
            ends = await fetch(connection, ENDS, {"ids": list(attempt_ids)})
        return AuditedLedger(
            sums=[read_as(AuditedSum, row) for row in sums],
            open_before=frozenset(AttemptId(row["id"]) for row in open_before),
            ends={AttemptId(row["id"]): _end(row) for row in ends},
        )

    async def suspense(self, *, older_seconds: float = 0.0, most: int = MOST_PER_ROUND) -> list[Unsettled]:
        """List unresolved charges, oldest first."""
        rows = await self._fetch_once(SUSPENSE, older_seconds=older_seconds, most=most)
        return [unsettled_from(row) for row in rows]

    async def ends(self, attempt_ids: Sequence[AttemptId]) -> dict[AttemptId, SettledEnd]:
        """Read the states of attempts; unopened ones are missing."""
        rows = await self._fetch_once(ENDS, ids=list(attempt_ids))
        return {AttemptId(row["id"]): _end(row) for row in rows}

    async def suspend_orphans(self, *, older_seconds: float = ORPHANED_AFTER_SECONDS) -> int:
        """Suspend old open attempts whose fence no longer runs; returns how many."""
        return len(await self._fetch_once(SUSPEND_ORPHANS, older_seconds=older_seconds, most=MOST_PER_ROUND))

    async def post(self, attempt_id: AttemptId, cost_nano_usd: NanoUsd) -> bool:
        """Resolve a charge at a looked-up cost; False when resolved before."""
        return await self._post(attempt_id, "post", cost_nano_usd)

    async def presume(self, unsettled: Unsettled) -> bool:
        """Resolve a charge at its reservation; False when resolved before."""
        return await self._post(unsettled.attempt_id, "presumed", unsettled.grant.cost_nano_usd)

    async def _post(self, attempt_id: AttemptId, kind: str, cost: NanoUsd) -> bool:
        async with self._transaction() as connection:
            return await resolve(connection, attempt_id, AttemptState.POSTED, kind, cost)


async def _sealed_to(connection: AsyncConnection) -> dict[str, int]:
    [row] = await fetch(connection, SEALED_TO, {})
    return {"sealed_to": row["sealed_to"]}


def _end(row: Row) -> SettledEnd:
    usage = row["usage"]
    tokens = usage["input_tokens"] + usage["output_tokens"] if usage else None
    return read_as(SettledEnd, row, grant=grant_from(row), tokens=tokens)
