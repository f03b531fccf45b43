"""Stores which processes died and the job that each was working on, so that a rescue counts the right death.

The finder of a dead process's mark reports it here; the rescue (`storage.queue.transitions`) reads it in its statement.
"""

from sqlalchemy.ext.asyncio import AsyncEngine

from config.marks import LastMark
from storage.database.engine import transaction
from storage.database.statements import run

KEPT_SECONDS = 24 * 3600.0
"""A report is read when leases expire, seconds later; a day covers an outage of Postgres and of upkeep."""

REPORT = """
WITH old AS (
    DELETE FROM process_deaths WHERE reported_at < clock_timestamp() - make_interval(secs => :kept_seconds)
)
INSERT INTO process_deaths (holder, job_id)
SELECT * FROM unnest(CAST(:holder AS text[]), CAST(:job_id AS text[]))
ON CONFLICT (holder) DO NOTHING
"""


class DeathTable:
    """Writes reports of deaths."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def report(self, marks: list[LastMark]) -> None:
        """Store the last marks of dead processes. Safe to call twice; the first report of a process stands."""
        terms = {
            "holder": [mark.holder for mark in marks],
            "job_id": [mark.job_id for mark in marks],
            "kept_seconds": KEPT_SECONDS,
        }
        async with transaction(self._engine) as connection:
            await run(connection, REPORT, terms)
