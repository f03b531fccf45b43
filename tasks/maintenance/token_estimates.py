"""Shares learned prompt sizes between processes through Postgres."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

import structlog

from providers.tokens.estimates import Estimates
from schemas.errors import Unavailable
from schemas.estimates import Lesson, Sums, Topic

log = structlog.get_logger()

EXCHANGE_SECONDS = 10.0
"""Interval of sharing; a new process reads at once."""


Share: TypeAlias = Callable[[Sequence[Lesson]], Awaitable[Mapping[Topic, Sums]]]
"""Adds lessons and reads all sums. Raises Unavailable, and then adds none."""


async def exchange(learned: Estimates, share: Share) -> bool:
    """Exchange once; False while Postgres is unavailable."""
    lessons = learned.lessons()
    try:
        known = await share(lessons)
    except Unavailable as error:
        learned.not_shared(lessons)
        log.debug("estimates_not_exchanged", reason=error.message)
        return False
    learned.shared(known)
    return True
