"""Running suspects alone: a process is started for one job, and its death, seen by its parent, condemns that job only.

An exit by itself, however it ended, is no death: the job was written down, handed back or left to its lease.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from schemas.ids import JobId

log = structlog.get_logger()

MOST_ALONE = 2
"""Processes for suspects at once: each costs a second of start and the memory of a worker."""


class Suspected(Protocol):
    """The rows of suspects."""

    async def next_alone(self, most: int) -> list[tuple[JobId, int]]:
        """Take some, each under a new generation."""

    async def quarantine(self, job_id: JobId, generation: int, message: str) -> bool:
        """Rest one as poison; False where it had ended or moved on."""


class Suspects:
    """`run` starts a process for a job and generation and returns its exit status; negative is a signal's number."""

    def __init__(self, rows: Suspected, run: Callable[[JobId, int], Awaitable[int]]) -> None:
        self._rows, self._run = rows, run

    async def try_alone(self) -> int:
        """Run the next suspects, each in a process of its own, to their end; returns how many."""
        taken = await self._rows.next_alone(MOST_ALONE)
        await asyncio.gather(*(self._try(job_id, generation) for job_id, generation in taken))
        return len(taken)

    async def _try(self, job_id: JobId, generation: int) -> None:
        status = await self._run(job_id, generation)
        if status >= 0:
            log.info("suspect_ran_alone", job_id=job_id, status=status)
            return
        message = f"The process that ran it alone died of signal {-status}."
        if await self._rows.quarantine(job_id, generation, message):
            log.error("job_quarantined", job_id=job_id, signal=-status)
