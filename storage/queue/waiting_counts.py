"""Counts waiting jobs by lane and model, from indexes and up to a bound.

Jobs wait while queued, parked, or in a worker before admission; those held for a canary are left out. Invariants: skip
scans find lanes and models; only rows of claimed jobs are read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas.lanes import Lane
from storage.database.statements import PostgresTable, Row, fetch, run
from storage.queue.flows import FLOW, UNPUBLISHED, flows

MOST_COUNTED = 10_000
"""Bounds a count: an index yields this many entries in two milliseconds."""

BY_INDEX = ("SET LOCAL enable_seqscan = off", "SET LOCAL enable_bitmapscan = off")
"""Disables plans that read a whole flow before the bound."""

_COUNTED = """
    SELECT '{place}' AS place, f.lane, f.model, (
        SELECT count(*) FROM (SELECT 1 FROM jobs j WHERE {which} AND {same} LIMIT :most) AS few
    ) AS jobs FROM {name} f
"""


def _counted(place: str, name: str, which: str, columns: Sequence[str]) -> str:
    same = " AND ".join(f"j.{column} = f.{column}" for column in columns)
    return _COUNTED.format(place=place, name=name, which=which, same=same)


_PARKED_FLOW = (*FLOW, "wait_reason")
_PUBLISHED = "state = 'queued' AND dispatched_at IS NOT NULL"
_PARKED = "state = 'waiting'"

WAITING = f"""
WITH RECURSIVE {flows("unpublished", UNPUBLISHED, FLOW)},
{flows("published", _PUBLISHED, FLOW)},
{flows("parked", _PARKED, _PARKED_FLOW)}
{_counted("queued", "unpublished", UNPUBLISHED, FLOW)}
UNION ALL {_counted("queued", "published", _PUBLISHED, FLOW)}
UNION ALL {_counted("parked", "parked", _PARKED, _PARKED_FLOW)} WHERE f.wait_reason <> 'canary'
UNION ALL
SELECT 'in_place', j.lane, j.model, count(*) FROM jobs j
WHERE j.state = 'running' AND j.lease_until > statement_timestamp()
  AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.job_id = j.id AND a.state = 'opened')
GROUP BY j.lane, j.model
"""  # noqa: S608 - put together from the constants above


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingJobs:
    """Counts jobs by where they wait. A count at its bound means "at least"."""

    queued: int = 0
    in_place: int = 0
    parked: int = 0

    @property
    def jobs(self) -> int:
        """Return the total."""
        return self.queued + self.in_place + self.parked

    def __add__(self, other: "WaitingJobs") -> "WaitingJobs":
        return WaitingJobs(
            queued=self.queued + other.queued,
            in_place=self.in_place + other.in_place,
            parked=self.parked + other.parked,
        )


class WaitingReads(PostgresTable):
    """Counts in one statement, so at one moment."""

    async def by_flow(self, most: int = MOST_COUNTED) -> dict[tuple[Lane, str], WaitingJobs]:
        """Count by lane and requested model or alias. Raises PostgresUnavailable."""
        async with self._transaction() as connection:
            for statement in BY_INDEX:
                await run(connection, statement, {})
            return _by_flow(await fetch(connection, WAITING, {"most": most}))


def _by_flow(rows: Iterable[Row]) -> dict[tuple[Lane, str], WaitingJobs]:
    counts: dict[tuple[Lane, str], WaitingJobs] = {}
    for row in rows:
        flow = Lane(row["lane"]), row["model"]
        counts[flow] = counts.get(flow, WaitingJobs()) + WaitingJobs(**{row["place"]: row["jobs"]})
    return counts
