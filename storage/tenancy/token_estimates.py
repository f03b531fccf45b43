"""Adds up what processes learn about the size of prompts.

One statement fades the sums and adds a lesson, so concurrent writers overwrite nothing.
"""

from collections.abc import Mapping, Sequence

from schemas.estimates import Lesson, Sums, Topic
from schemas.job import Target
from storage.database.mapping import read_as, values_of
from storage.database.statements import PostgresTable, fetch, run

ADD_LESSON = """
INSERT INTO prompt_estimates AS e (account, model, shape, features, calls, sums)
VALUES (:account, :model, :shape, :features, :calls, CAST(:sums AS float8[]))
ON CONFLICT (account, model, shape, features) DO UPDATE
SET calls = e.calls + EXCLUDED.calls, changed_at = clock_timestamp(),
    sums = ARRAY(
        SELECT old * fading + new
        FROM unnest(e.sums, EXCLUDED.sums, CAST(:fading AS float8[])) WITH ORDINALITY AS u (old, new, fading, place)
        ORDER BY place
    )
WHERE cardinality(e.sums) = cardinality(EXCLUDED.sums)
"""

ALL = 'SELECT account, model, shape, features, calls, sums AS "values" FROM prompt_estimates'


class EstimateTable(PostgresTable):
    """Stores sums by topic."""

    async def exchange(self, lessons: Sequence[Lesson]) -> Mapping[Topic, Sums]:
        """Add all lessons once, and read all sums. Raises PostgresUnavailable, and then adds none."""
        async with self._transaction() as connection:
            for lesson in sorted(lessons, key=_place):  # one order, so that two processes cannot deadlock
                await run(connection, ADD_LESSON, _parameters(lesson))
            known = await fetch(connection, ALL, {})
        return {read_as(Topic, row, target=read_as(Target, row)): read_as(Sums, row) for row in known}


def _place(lesson: Lesson) -> tuple[str, str, str, str]:
    topic = lesson.topic
    return topic.target.account, topic.target.model, topic.shape, topic.features


def _parameters(lesson: Lesson) -> dict[str, object]:
    sums = {"calls": lesson.sums.calls, "sums": list(lesson.sums.values), "fading": list(lesson.fading)}
    return values_of(lesson.topic) | values_of(lesson.topic.target) | sums
