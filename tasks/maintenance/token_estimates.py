"""What this process learns about the size of prompts, told to the others and heard from them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import structlog

from providers.tokens.estimates import Estimates
from schemas.errors import Unavailable
from schemas.estimates import Lesson, Sums, Topic

log = structlog.get_logger()

EXCHANGE_SECONDS = 10.0
"""A new process knows what the others know at once; what it learns itself can wait so long."""


class Exchanged(Protocol):
    """What all processes know together."""

    async def exchange(self, lessons: Sequence[Lesson]) -> Mapping[Topic, Sums]:
        """Add these lessons and read everything. Raises Unavailable, and then adds nothing."""


async def exchange(learned: Estimates, table: Exchanged) -> bool:
    """Tell and hear once; False while Postgres is away, when estimates go on with what is known here."""
    lessons = learned.lessons()
    try:
        known = await table.exchange(lessons)
    except Unavailable as error:
        learned.untold(lessons)
        log.debug("estimates_not_exchanged", reason=error.message)
        return False
    learned.told(known)
    return True


async def keep_exchanging(
    learned: Estimates, table: Exchanged, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Tell and hear for ever."""
    while True:
        await exchange(learned, table)
        await pause(EXCHANGE_SECONDS)
