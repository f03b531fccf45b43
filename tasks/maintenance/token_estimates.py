"""Shares learned prompt sizes between processes through Postgres."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from providers.tokens.estimates import Estimates
from schemas.errors import Unavailable
from schemas.estimates import Lesson, Sums, Topic

log = structlog.get_logger()

EXCHANGE_SECONDS = 10.0
"""Interval of sharing; a new process reads at once."""


class Exchanged(Protocol):
    """Stores what processes learned."""

    async def exchange(self, lessons: Sequence[Lesson]) -> Mapping[Topic, Sums]:
        """Add lessons and read all sums. Raises Unavailable, and then adds none."""


async def exchange(learned: Estimates, table: Exchanged) -> bool:
    """Exchange once; False while Postgres is unavailable."""
    lessons = learned.lessons()
    try:
        known = await table.exchange(lessons)
    except Unavailable as error:
        learned.not_shared(lessons)
        log.debug("estimates_not_exchanged", reason=error.message)
        return False
    learned.shared(known)
    return True
