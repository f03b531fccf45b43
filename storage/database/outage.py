"""Repeats calls until Postgres is available again."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from schemas.errors import PostgresUnavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

log = structlog.get_logger()

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
"""Pause before jitter of up to half: slots must not reconnect in lockstep."""


class OutageRetry:
    """Retries the calls of one process, and logs once per outage.

    Raises PostgresUnavailable after pauses of `most_seconds` (None: never). `jitter` is uniform in [0, 1).
    """

    def __init__(
        self,
        *,
        most_seconds: float | None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._most_seconds, self._pause, self._jitter = most_seconds, pause, jitter
        self._away = False

    async def run(self, act: Callable[[Item], Awaitable[Result]], item: Item) -> Result:
        """Call `act` until Postgres answers. `act` must be safe to repeat."""
        pause_seconds, waited_seconds = FIRST_PAUSE_SECONDS, 0.0
        while True:
            try:
                result = await act(item)
            except PostgresUnavailable as error:
                if self._most_seconds is not None and waited_seconds >= self._most_seconds:
                    raise
                if not self._away:
                    log.warning("jobs_wait_for_postgres", reason=error.message)
                self._away = True
            else:
                if self._away:
                    log.info("jobs_have_postgres")
                self._away = False
                return result
            spread_seconds = pause_seconds * (0.5 + self._jitter())
            await self._pause(spread_seconds)
            waited_seconds += spread_seconds
            pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)
