"""Stores dead processes and their jobs, so that a rescue counts the right death."""

from config.marks import LastMark
from storage.database.mapping import values_of
from storage.database.statements import PostgresTable, columns

KEPT_SECONDS = 24 * 3600.0
"""Reports are read seconds later; a day covers outages."""

REPORT = """
WITH old AS (
    DELETE FROM process_deaths WHERE reported_at < clock_timestamp() - make_interval(secs => :kept_seconds)
)
INSERT INTO process_deaths (holder, job_id)
SELECT * FROM unnest(CAST(:holder AS text[]), CAST(:job_id AS text[]))
ON CONFLICT (holder) DO NOTHING
"""


class DeathTable(PostgresTable):
    """Stores reports of deaths."""

    async def report(self, marks: list[LastMark]) -> None:
        """Store the last marks of dead processes; the first report of each stands."""
        reports = columns([values_of(mark) for mark in marks])
        await self._run_once(REPORT, **reports, kept_seconds=KEPT_SECONDS)
