"""Stores passed budget thresholds, once per window and limit, and their delivery."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from schemas.money import NanoUsd
from storage.database.mapping import read_as, values_of
from storage.database.statements import PostgresTable, Row, columns
from storage.ledger.counted_scope import SCOPE_OF_TENANT

MOST_PER_ROUND = 100
DELIVERED_WITHIN_SECONDS = 3 * 86_400.0
"""Older news of a budget is useless."""

RECORD = """
INSERT INTO budget_thresholds (scope, time_window, limit_nano_usd, percent, settled_nano_usd, full_at)
SELECT * FROM unnest(CAST(:scope AS text[]), CAST(:window AS text[]), CAST(:limit_nano_usd AS bigint[]),
    CAST(:percent AS int[]), CAST(:settled_nano_usd AS bigint[]), CAST(:full_at AS timestamptz[]))
ON CONFLICT (scope, time_window, limit_nano_usd, percent) DO NOTHING
RETURNING *
"""

DUE = """
SELECT * FROM budget_thresholds
WHERE delivered_at IS NULL AND send_at <= statement_timestamp()
  AND passed_at > statement_timestamp() - make_interval(secs => :within_seconds)
ORDER BY send_at LIMIT :most
"""

SENT = """
UPDATE budget_thresholds SET sends = sends + 1,
    delivered_at = CASE WHEN :heard THEN clock_timestamp() END,
    send_at = clock_timestamp() + make_interval(secs => :again_seconds)
WHERE id = :id AND delivered_at IS NULL
RETURNING id
"""

COUNTS = """
SELECT CASE WHEN scope ~ '^(user|batch|prompt):' THEN split_part(scope, ':', 1) ELSE scope END AS counted, percent,
    count(*) AS times
FROM budget_thresholds GROUP BY 1, 2 ORDER BY 1, 2
"""
"""Users, batches and prompts share one sum each: metrics would expose their names."""

BURN = f"""
SELECT {SCOPE_OF_TENANT} AS scope, c.item ->> 1 AS time_window, sum(l.nano_usd)::bigint AS nano_usd
FROM ledger l JOIN attempts a ON a.id = l.attempt_id CROSS JOIN LATERAL json_array_elements(a.counters) AS c (item)
WHERE l.at >= statement_timestamp() - make_interval(secs => :seconds)
GROUP BY 1, 2
"""  # noqa: S608 - constants inside another


@dataclass(frozen=True, kw_only=True, slots=True)
class ThresholdReached:
    """Says that settled money passed a percentage; the limit is spent at `full_at`."""

    scope: str
    window: str
    limit_nano_usd: NanoUsd
    percent: int
    settled_nano_usd: NanoUsd
    full_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredThreshold:
    """Holds a stored threshold and its number of `sends`."""

    id: int
    passed: ThresholdReached
    passed_at: datetime
    sends: int


class ThresholdTable(PostgresTable):
    """Stores budget thresholds and their delivery."""

    async def record(self, passed: Sequence[ThresholdReached]) -> list[StoredThreshold]:
        """Store thresholds and return the new ones. Safe to call twice."""
        if not passed:
            return []
        rows = [values_of(threshold) for threshold in passed]
        return [_stored(row) for row in await self._fetch_once(RECORD, **columns(rows))]

    async def due(self, most: int = MOST_PER_ROUND) -> list[StoredThreshold]:
        """List thresholds to deliver now."""
        rows = await self._fetch_once(DUE, most=most, within_seconds=DELIVERED_WITHIN_SECONDS)
        return [_stored(row) for row in rows]

    async def sent(self, number: int, *, heard: bool, again_seconds: float = 0.0) -> None:
        """Record a delivery, or when to send again."""
        await self._fetch_once(SENT, id=number, heard=heard, again_seconds=again_seconds)

    async def counts(self) -> dict[tuple[str, int], int]:
        """Count passes by scope and percentage."""
        return {(row["counted"], row["percent"]): row["times"] for row in await self._fetch_once(COUNTS)}

    async def burn(self, seconds: float) -> dict[tuple[str, str], NanoUsd]:
        """Sum recent spend by scope and window."""
        rows = await self._fetch_once(BURN, seconds=seconds)
        return {(row["scope"], row["time_window"]): NanoUsd(row["nano_usd"]) for row in rows}


def _stored(row: Row) -> StoredThreshold:
    return read_as(StoredThreshold, row, passed=read_as(ThresholdReached, row, window=row["time_window"]))
