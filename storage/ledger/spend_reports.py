"""Reports spend and its wasted part, as sums over the ledger.

A year of a million entries takes well under a second (`bench/store/spend.py`), so there is no roll-up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from schemas.ids import TenantId
from schemas.money import NanoUsd
from storage.database.mapping import read_as
from storage.database.statements import PostgresTable, Row, fetch, run

By: TypeAlias = Literal["tenant", "user", "model", "prompt", "lane", "tier", "batch", "day", "cause"]

MOST_ROWS = 10_000
"""More than an operator reads, and few enough for memory."""

_COLUMNS: dict[By, str] = {
    "tenant": "tenant_id",
    "user": "COALESCE(end_user, '')",
    "model": "account || '/' || model",
    "prompt": "COALESCE(prompt, '')",
    "lane": "COALESCE(lane, '')",
    "tier": "COALESCE(tier, '')",
    "batch": "COALESCE(batch_id, '')",
    "day": "CAST(at AT TIME ZONE :zone AS date)",
    "cause": "COALESCE(cause, 'unknown')",
}

REPORT = """
SELECT {keys}, count(*) AS entries, sum(nano_usd)::bigint AS spent_nano_usd,
    COALESCE(sum(nano_usd) FILTER (WHERE cause <> 'useful'), 0)::bigint AS wasted_nano_usd
FROM ledger
WHERE at >= :since AND at < :until AND (CAST(:tenant_id AS text) IS NULL OR tenant_id = :tenant_id)
GROUP BY {numbers} ORDER BY {order} LIMIT :most
"""

SORT_MEMORY = "SET LOCAL work_mem = '64MB'"
"""Sorts a year's groups in memory instead of on disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spend:
    """Sums spend of one group; `wasted` had no useful result. Old entries have no cause."""

    keys: dict[By, str]
    entries: int
    spent_nano_usd: NanoUsd
    wasted_nano_usd: NanoUsd


class SpendReads(PostgresTable):
    """Sums spend over the ledger."""

    async def report(
        self,
        by: Sequence[By],
        *,
        since: datetime,
        until: datetime,
        zone: str = "UTC",
        tenant_id: TenantId | None = None,
        most: int = MOST_ROWS,
    ) -> list[Spend]:
        """Sum by these keys, ordered by day where included, else most expensive first."""
        keys = ", ".join(f"{_COLUMNS[key]} AS key_{number}" for number, key in enumerate(by, 1))
        numbers = ", ".join(str(number) for number in range(1, len(by) + 1))
        order = f"{by.index('day') + 1}, spent_nano_usd DESC" if "day" in by else "spent_nano_usd DESC"
        query = REPORT.format(keys=keys, numbers=numbers, order=order)
        parameters: dict[str, object] = {"since": since, "until": until, "tenant_id": tenant_id, "most": most}
        if "day" in by:
            parameters["zone"] = zone
        async with self._transaction() as connection:
            await run(connection, SORT_MEMORY, {})
            rows = await fetch(connection, query, parameters)
        return [_spend(row, by) for row in rows]


def _spend(row: Row, by: Sequence[By]) -> Spend:
    keys: dict[By, str] = {key: str(row[f"key_{number}"]) for number, key in enumerate(by, 1)}
    return read_as(Spend, row, keys=keys)
