"""Wakes parked jobs early, in rounds, after a limit or a budget was raised.

The configuration last seen is stored, so a change at a restart is noticed once.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from storage.database.mapping import read_as, values_of
from storage.database.statements import PostgresTable, Row, RunEach, columns, fetch, in_order, run

MOST_PER_ROUND = 1_000
SPREAD_SECONDS = 1.0
"""Spreads a round's jobs over the time in which dispatch publishes them."""

AFTER_SECONDS = 3.0
"""Until then some process might park a job again under the old budget."""

CHANGES = """
SELECT COALESCE(c.name, f.name) AS name, c.version, c.value AS after, f.value AS before
FROM effective_config c FULL JOIN config_in_force f ON f.name = c.name
WHERE c.version IS DISTINCT FROM f.version
"""

REMEMBER = """
INSERT INTO config_in_force (name, version, value)
SELECT name, version, value FROM effective_config WHERE name = :name AND version = :version
ON CONFLICT (name) DO UPDATE SET version = EXCLUDED.version, value = EXCLUDED.value
"""

FORGET = (
    "DELETE FROM config_in_force WHERE name = :name AND NOT EXISTS (SELECT 1 FROM effective_config WHERE name = :name)"
)

ASK = """
INSERT INTO early_wakes (reason, model)
SELECT * FROM unnest(CAST(:reason AS text[]), CAST(:model AS text[]))
ON CONFLICT (reason, model) DO UPDATE SET asked_at = clock_timestamp()
"""

REQUESTED = """
SELECT reason, model, asked_at FROM early_wakes
WHERE asked_at < statement_timestamp() - make_interval(secs => :after_seconds) ORDER BY asked_at LIMIT 100
"""

WAKE_SOME = """
WITH sleeping AS (
    SELECT id FROM jobs
    WHERE state = 'waiting' AND wait_reason = :reason AND model = :model
      AND wake_at > statement_timestamp() + make_interval(secs => :spread_seconds)
    ORDER BY wake_at LIMIT :most FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE jobs j SET wake_at = clock_timestamp() + random() * make_interval(secs => :spread_seconds)
FROM sleeping s WHERE j.id = s.id
RETURNING j.id
"""

WAKE_SOME_OF_ANY_MODEL = WAKE_SOME.replace(" AND model = :model", "")

DONE = "DELETE FROM early_wakes WHERE reason = :reason AND model = :model AND asked_at = :asked_at"

ANY_MODEL = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Holds a changed value of the effective configuration; None is no value."""

    name: str
    version: int | None
    before: Any
    after: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiters:
    """Selects jobs that wait for one reason, of one model or of `ANY_MODEL`."""

    reason: str
    model: str = ANY_MODEL


class ParkedTable(PostgresTable):
    """Wakes parked jobs after changes."""

    async def changes(self) -> list[Change]:
        """List changes since the last `note`."""
        return [read_as(Change, row) for row in await self._fetch_once(CHANGES)]

    async def note(self, changes: Sequence[Change], waiters: Collection[Waiters]) -> None:
        """Store changes as seen and request early wakes, in one transaction."""
        requests = columns([values_of(waiter) for waiter in waiters])
        async with self._transaction() as connection:
            for change in sorted(changes, key=lambda change: change.name):
                await run(connection, FORGET if change.version is None else REMEMBER, values_of(change))
            if requests:
                await run(connection, ASK, requests)

    async def wake_early(
        self,
        most: int = MOST_PER_ROUND,
        *,
        spread_seconds: float = SPREAD_SECONDS,
        after_seconds: float = AFTER_SECONDS,
        run_each: RunEach[Row] = in_order,
    ) -> int:
        """Run one round of each early wake; returns how many jobs wake sooner."""
        requests = await self._fetch_once(REQUESTED, after_seconds=after_seconds)
        return await run_each(
            requests,
            lambda row: f"{row['reason']} {row['model']}",
            lambda row: self._wake(row, most, spread_seconds),
        )

    async def _wake(self, row: Row, most: int, spread_seconds: float) -> int:
        query = WAKE_SOME_OF_ANY_MODEL if row["model"] == ANY_MODEL else WAKE_SOME
        terms = {**row, "most": most, "spread_seconds": spread_seconds}
        async with self._transaction() as connection:
            woken = await fetch(connection, query, terms)
            if len(woken) < most:
                await run(connection, DONE, terms)
        return len(woken)
