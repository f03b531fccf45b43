"""Retries the pipeline's writes in place while Postgres is unavailable.

A finished reply waits in its slot, so it is neither lost nor paid for twice; the slots bound the buffer. Waiting is
safe, because the fence is checked when Postgres is back. Writes may be repeated when their result was lost: a claim has
a name, an attempt its id, a record its fence. Exception: the job's `tries` may count a retry within a synchronous
caller's lease twice. A process logs once per outage that it waits.
"""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

import structlog

from schemas.attempt import ClosedAttempt, OpenedAttempt
from schemas.decision import Decision
from schemas.errors import PostgresUnavailable
from schemas.ids import JobId
from schemas.job import Lease, LeasedJob
from tasks.execution.deps import Jobs

T = TypeVar("T")

log = structlog.get_logger()

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
"""Longest pause between two tries of one write, before jitter of up to half: slots must not reconnect in lockstep."""


class NamedClaims(Jobs, Protocol):
    """Jobs with claims that may be repeated."""

    async def hold(self, job_id: JobId, generation: int, claim: str | None = None) -> LeasedJob | None:
        """Claim the job. Repeating a claim's unique name returns the lease that it already took."""


class PatientJobs:
    """`tasks.execution.deps.Jobs` that waits for Postgres.

    A write raises PostgresUnavailable once it has waited `most_seconds` (None: never).
    """

    def __init__(
        self,
        jobs: NamedClaims,
        *,
        pause: Callable[[float], Awaitable[None]],
        jitter: Callable[[], float],
        most_seconds: float | None,
    ) -> None:
        self._jobs, self._pause, self._jitter, self._most_seconds = jobs, pause, jitter, most_seconds
        self._away = False
        self._claims = itertools.count(1)

    async def hold(self, job_id: JobId, generation: int) -> LeasedJob | None:
        """Claim the job; None when it is taken, stale or terminal."""
        claim = str(next(self._claims))
        return await self._patiently(lambda: self._jobs.hold(job_id, generation, claim))

    async def open(self, attempt: OpenedAttempt) -> bool:
        """Store the attempt; False when the epoch or the fence is outdated."""
        return await self._patiently(lambda: self._jobs.open(attempt))

    async def record(self, lease: Lease, closed: ClosedAttempt | None, decision: Decision) -> bool:
        """Write outcome and decision; False when the fence was lost."""
        return await self._patiently(lambda: self._jobs.record(lease, closed, decision))

    async def suspended(self, job_id: JobId) -> Sequence[OpenedAttempt]:
        """The job's attempts with unresolved charges."""
        return await self._patiently(lambda: self._jobs.suspended(job_id))

    async def hand_back(self, lease: Lease) -> bool:
        """Release the lease without waiting for Postgres: an ending process has no time; leases expire."""
        return await self._jobs.hand_back(lease)

    def renewing(self, lease: Lease) -> AbstractAsyncContextManager[None]:
        """Renew the lease while the block runs."""
        return self._jobs.renewing(lease)

    async def _patiently(self, write: Callable[[], Awaitable[T]]) -> T:
        pause_seconds, waited_seconds = FIRST_PAUSE_SECONDS, 0.0
        while True:
            try:
                done = await write()
            except PostgresUnavailable as error:
                if self._most_seconds is not None and waited_seconds >= self._most_seconds:
                    raise
                self._say_away(error)
            else:
                self._say_back()
                return done
            spread_seconds = pause_seconds * (0.5 + self._jitter())
            await self._pause(spread_seconds)
            waited_seconds += spread_seconds
            pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)

    def _say_away(self, error: PostgresUnavailable) -> None:
        if not self._away:
            self._away = True
            log.warning("jobs_wait_for_postgres", reason=error.message)

    def _say_back(self) -> None:
        if self._away:
            self._away = False
            log.info("jobs_have_postgres")
