"""Reads and resolves money in Postgres: epoch, balances for a rebuild of Redis, unresolved charges.

Invariants: ledger rows are never changed or deleted, so a balance is a sum. An attempt is closed once, by a state test
in the statement, so that two processes that resolve the same charge book it once.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from schemas.attempt import AttemptState, SettledEnd, Unsettled
from schemas.ids import AttemptId
from schemas.money import NanoUsd
from storage.database.engine import transaction
from storage.database.statements import Row, fetch, run
from storage.ledger.counted_scope import SCOPE_OF_TENANT
from storage.rows import grant_from, unsettled_from

MOST_PER_ROUND = 1_000
ORPHANED_AFTER_SECONDS = 900.0
"""A worker that lost its job may still close the attempt; after this time the attempt becomes an unresolved charge."""

EPOCH = "SELECT epoch FROM ledger_epoch"

RAISE_EPOCH = """
WITH carried AS (UPDATE tenant_ledger_seal SET counters_carried = true)
UPDATE ledger_epoch SET epoch = epoch + 1 RETURNING epoch
"""

COUNTERS_CARRIED = "SELECT counters_carried FROM tenant_ledger_seal"

SEALED_TO = "SELECT sealed_to FROM tenant_ledger_seal"
"""Read before the sums, in the same snapshot: given as a value, it lets the planner know how few entries lie beyond
it."""

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
SELECT scope, time_window, LEAST(sum(settled), 9223372036854775807)::bigint AS settled,
    LEAST(sum(reserved), 9223372036854775807)::bigint AS reserved
FROM parts GROUP BY 1, 2
"""  # noqa: S608 - constants inside another
"""Reserved money counts under the scope as its stamp has it, by which Redis settles it."""

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
SELECT scope, time_window, LEAST(sum(nano_usd), 9223372036854775807)::bigint AS settled,
    LEAST(sum(before), 9223372036854775807)::bigint AS settled_before
FROM parts GROUP BY 1, 2
"""  # noqa: S608 - constants inside another

OPEN_BEFORE = "SELECT id FROM attempts WHERE state IN ('opened', 'suspense') AND opened_at < :before"

MOMENT = "SELECT clock_timestamp() AS at"

UNSETTLED = """
SELECT id AS attempt_id, job_id, state AS attempt_state, account, model, epoch, stamp, counters, reserved_tokens,
    reserved_nano_usd, opened_at
FROM attempts WHERE state IN ('opened', 'suspense') ORDER BY state, opened_at
"""

SUSPENSE = """
SELECT id AS attempt_id, job_id, state AS attempt_state, account, model, epoch, stamp, counters, reserved_tokens,
    reserved_nano_usd, opened_at
FROM attempts WHERE state = 'suspense' AND opened_at < statement_timestamp() - make_interval(secs => :older_seconds)
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

RESOLVE = """
WITH resolved AS (
    UPDATE attempts a SET state = :state, outcome = :kind, cost_nano_usd = :nano_usd, closed_at = clock_timestamp()
    WHERE a.id = :id AND a.state = 'suspense'
    RETURNING a.id, a.job_id, a.account, a.model
), booked AS (
    INSERT INTO ledger (attempt_id, kind, nano_usd, tenant_id, end_user, batch_id, account, model, at, lane, prompt,
        cause)
    SELECT r.id, :kind, :nano_usd, j.tenant_id, j.end_user, j.batch_id, r.account, r.model, clock_timestamp(),
        j.lane, j.prompt, 'duplicate'
    FROM resolved r JOIN jobs j ON j.id = r.job_id WHERE CAST(:state AS text) = 'posted'
    ON CONFLICT (attempt_id, kind, seq) DO NOTHING
    RETURNING attempt_id, nano_usd
), spent AS (
    UPDATE jobs j SET spent_nano_usd = j.spent_nano_usd + b.nano_usd
    FROM booked b JOIN resolved r ON r.id = b.attempt_id WHERE j.id = r.job_id
)
SELECT id FROM resolved
"""

LOCK_JOB = """
SELECT j.id FROM jobs j JOIN attempts a ON a.job_id = j.id WHERE a.id = :id FOR NO KEY UPDATE OF j
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """Spent and reserved money of one scope in one window; unresolved charges count as reserved."""

    scope: str
    window: str
    settled_nano_usd: NanoUsd
    reserved_nano_usd: NanoUsd


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditedSum:
    """A scope's spend in a window by the ledger: up to now, and up to a moment before Redis was read."""

    scope: str
    window: str
    settled_nano_usd: NanoUsd
    settled_before_nano_usd: NanoUsd


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditedLedger:
    """One snapshot of Postgres to compare with Redis. `ends` are those of the requested attempts."""

    sums: Sequence[AuditedSum]
    open_before: frozenset[AttemptId]
    ends: dict[AttemptId, SettledEnd]


@dataclass(frozen=True, kw_only=True, slots=True)
class RebuiltLedger:
    """A rebuild's data, in one snapshot under a new epoch. `unsettled` are the reservations to carry."""

    epoch: int
    balances: Sequence[Balance]
    unsettled: Sequence[Unsettled]


class LedgerTable:
    """The ledger's reads for a rebuild, and its rare writes; usual entries are part of `JobTable.record`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def epoch(self) -> int:
        """The current epoch; grants of any other may not be sent."""
        [row] = await self._rows(EPOCH)
        return int(row["epoch"])

    async def counters_carried(self) -> bool:
        """Whether Redis was rebuilt since users and prompts are counted per tenant."""
        [row] = await self._rows(COUNTERS_CARRIED)
        return bool(row["counters_carried"])

    async def balances(self, since: datetime) -> list[Balance]:
        """Sums per scope and window; windows without entries since then may be missing."""
        async with transaction(self._engine) as connection:
            await run(connection, SNAPSHOT, {})
            return await _balances(connection, since)

    async def rebuild(self, since: datetime) -> RebuiltLedger:
        """Raise the epoch and read the ledger under it.

        Raising waits for opens under the old epoch, so every attempt that may be sent is in the snapshot. The caller
        writes Redis and sets the epoch key there last.
        """
        async with transaction(self._engine) as connection:
            [raised] = await fetch(connection, RAISE_EPOCH, {})
        async with transaction(self._engine) as connection:
            await run(connection, SNAPSHOT, {})
            balances = await _balances(connection, since)
            unsettled = await fetch(connection, UNSETTLED, {})
        return RebuiltLedger(
            epoch=raised["epoch"],
            balances=balances,
            unsettled=[unsettled_from(row) for row in unsettled],
        )

    async def moment(self) -> datetime:
        """Postgres's clock."""
        [row] = await self._rows(MOMENT)
        moment: datetime = row["at"]
        return moment

    async def audited(
        self, attempt_ids: Sequence[AttemptId], *, windows: Collection[str], since: datetime, before: datetime
    ) -> AuditedLedger:
        """In one snapshot: sums of these windows, attempts open before a moment, and the ends of these attempts.

        `since` is when the earliest of the windows began, or earlier.
        """
        async with transaction(self._engine) as connection:
            await run(connection, SNAPSHOT, {})
            terms = {"windows": list(windows), "since": since, "before": before}
            sums = await fetch(connection, AUDITED, terms | await _sealed_to(connection))
            open_before = await fetch(connection, OPEN_BEFORE, {"before": before})
            ends = await fetch(connection, ENDS, {"ids": list(attempt_ids)})
        return AuditedLedger(
            sums=[_audited(row) for row in sums],
            open_before=frozenset(AttemptId(row["id"]) for row in open_before),
            ends={AttemptId(row["id"]): _end(row) for row in ends},
        )

    async def suspense(self, *, older_seconds: float = 0.0, most: int = MOST_PER_ROUND) -> list[Unsettled]:
        """Attempts whose outcome is unknown, oldest first."""
        rows = await self._rows(SUSPENSE, older_seconds=older_seconds, most=most)
        return [unsettled_from(row) for row in rows]

    async def ends(self, attempt_ids: Sequence[AttemptId]) -> dict[AttemptId, SettledEnd]:
        """The state of these attempts; those that were never opened are missing."""
        rows = await self._rows(ENDS, ids=list(attempt_ids))
        return {AttemptId(row["id"]): _end(row) for row in rows}

    async def suspend_orphans(self, *, older_seconds: float = ORPHANED_AFTER_SECONDS) -> int:
        """Suspend old open attempts whose job no longer runs under their fence; returns how many."""
        return len(await self._rows(SUSPEND_ORPHANS, older_seconds=older_seconds, most=MOST_PER_ROUND))

    async def post(self, attempt_id: AttemptId, cost_nano_usd: NanoUsd) -> bool:
        """Resolve an unresolved charge at a cost that was looked up; False when it was resolved before."""
        return await self._resolve(attempt_id, AttemptState.POSTED, "post", cost_nano_usd)

    async def release(self, attempt_id: AttemptId) -> bool:
        """Resolve an unresolved charge that was never billed; False when it was resolved before."""
        return await self._resolve(attempt_id, AttemptState.RELEASED, "release", NanoUsd(0))

    async def presume(self, unsettled: Unsettled) -> bool:
        """Resolve an unresolved charge at its reservation, as nothing more is known; an adjustment may follow.

        False when it was resolved before.
        """
        return await self._resolve(unsettled.attempt_id, AttemptState.POSTED, "presumed", unsettled.grant.cost_nano_usd)

    async def _resolve(self, attempt_id: AttemptId, state: AttemptState, kind: str, cost: NanoUsd) -> bool:
        end = {"id": attempt_id, "state": state.value, "kind": kind, "nano_usd": cost}
        async with transaction(self._engine) as connection:
            await run(connection, LOCK_JOB, {"id": attempt_id})  # jobs before attempts, as everywhere
            return bool(await fetch(connection, RESOLVE, end))

    async def _rows(self, query: str, **parameters: Any) -> Sequence[Row]:  # noqa: ANN401 - bind values
        async with transaction(self._engine) as connection:
            return await fetch(connection, query, parameters)


async def _sealed_to(connection: AsyncConnection) -> dict[str, int]:
    [row] = await fetch(connection, SEALED_TO, {})
    return {"sealed_to": row["sealed_to"]}


async def _balances(connection: AsyncConnection, since: datetime) -> list[Balance]:
    rows = await fetch(connection, BALANCES, {"since": since} | await _sealed_to(connection))
    return [_balance(row) for row in rows]


def _balance(row: Row) -> Balance:
    return Balance(
        scope=row["scope"],
        window=row["time_window"],
        settled_nano_usd=NanoUsd(row["settled"]),
        reserved_nano_usd=NanoUsd(row["reserved"]),
    )


def _audited(row: Row) -> AuditedSum:
    return AuditedSum(
        scope=row["scope"],
        window=row["time_window"],
        settled_nano_usd=NanoUsd(row["settled"]),
        settled_before_nano_usd=NanoUsd(row["settled_before"]),
    )


def _end(row: Row) -> SettledEnd:
    usage = row["usage"]
    return SettledEnd(
        state=AttemptState(row["state"]),
        grant=grant_from(row),
        cost_nano_usd=NanoUsd(row["cost_nano_usd"]),
        tokens=usage["input_tokens"] + usage["output_tokens"] if usage else None,
    )
