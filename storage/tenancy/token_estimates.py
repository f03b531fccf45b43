"""Adds up what processes learn about the size of prompts.

One statement fades the sums and adds a lesson, so concurrent writers overwrite nothing.
"""

from collections.abc import Mapping, Sequence

from schemas.estimates import Lesson, Sums, Topic
from schemas.job import Target
from storage.database.statements import PostgresTable, Row, fetch, run

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

ALL = "SELECT account, model, shape, features, calls, sums FROM prompt_estimates"


class EstimateTable(PostgresTable):
    """Stores sums by topic."""

    async def exchange(self, lessons: Sequence[Lesson]) -> Mapping[Topic, Sums]:
        """Add all lessons once, and read all sums. Raises PostgresUnavailable, and then adds none."""
        async with self._transaction() as connection:
            for lesson in sorted(lessons, key=_place):  # one order, so that two processes cannot deadlock
                await run(connection, ADD_LESSON, _parameters(lesson))
            known = await fetch(connection, ALL, {})
        return {_topic(row): Sums(calls=row["calls"], values=tuple(row["sums"])) for row in known}


def _place(lesson: Lesson) -> tuple[str, str, str, str]:
    topic = lesson.topic
    return topic.target.account, topic.target.model, topic.shape, topic.features


def _parameters(lesson: Lesson) -> dict[str, object]:
    account, model, shape, features = _place(lesson)
    return {
        "account": account,
        "model": model,
        "shape": shape,
        "features": features,
        "calls": lesson.sums.calls,
        "sums": list(lesson.sums.values),
        "fading": list(lesson.fading),
    }


def _topic(row: Row) -> Topic:
    target = Target(account=row["account"], model=row["model"])
    return Topic(target=target, shape=row["shape"], features=row["features"])
