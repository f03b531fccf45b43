"""Running suspects alone: a process is started for one job, and its death, seen by its parent, condemns that job only.

An exit by itself, however it ended, is no death: the job was written down, handed back or left to its lease. Each runs
beside the others and beside the duty, so that one that hangs keeps its own place and nobody else's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog

from schemas.errors import Unavailable
from schemas.ids import JobId, TenantId

log = structlog.get_logger()

MOST_ALONE = 6
"""Processes for suspects at once: each costs a second of start and the memory of a worker."""

MOST_ALONE_OF_TENANT = 2
"""Of them for one tenant: a suspect may hang for as long as its longest call, and others must have places left."""


class Suspected(Protocol):
    """The rows of suspects."""

    async def next_alone(
        self, most: int, most_of_tenant: int, under_way: Mapping[JobId, TenantId]
    ) -> list[tuple[JobId, int, TenantId]]:
        """Take some, each under a new generation, so that no tenant has more under way."""

    async def quarantine(self, job_id: JobId, generation: int, message: str) -> bool:
        """Rest one as poison; False where it had ended or moved on."""


class Suspects:
    """`run` starts a process for a job and generation and returns its exit status; negative is a signal's number."""

    def __init__(self, rows: Suspected, run: Callable[[JobId, int], Awaitable[int]]) -> None:
        self._rows, self._run = rows, run
        self._under_way: dict[asyncio.Task[None], tuple[JobId, TenantId]] = {}

    async def try_alone(self) -> int:
        """Start the next suspects that there are places for, each in a process of its own; returns how many."""
        free = MOST_ALONE - len(self._under_way)
        if free <= 0:
            return 0
        taken = await self._rows.next_alone(free, MOST_ALONE_OF_TENANT, dict(self._under_way.values()))
        for job_id, generation, tenant_id in taken:
            task = asyncio.create_task(self._try(job_id, generation), name=f"alone {job_id}")
            self._under_way[task] = job_id, tenant_id
            task.add_done_callback(self._under_way.pop)
        return len(taken)

    async def aclose(self) -> None:
        """Wait for those under way; whoever runs them ends them when the process stops."""
        if self._under_way:
            await asyncio.wait(list(self._under_way))

    async def _try(self, job_id: JobId, generation: int) -> None:
        try:
            await self._attempt_result(job_id, generation)
        except Unavailable as error:
            log.warning("suspect_left_to_its_lease", job_id=job_id, reason=error.message)
        except Exception:  # a task of its own: its bug is this suspect's, which is taken again after its lease
            log.exception("suspect_failed", job_id=job_id)

    async def _attempt_result(self, job_id: JobId, generation: int) -> None:
        status = await self._run(job_id, generation)
        if status >= 0:
            log.info("suspect_ran_alone", job_id=job_id, status=status)
            return
        message = f"The process that ran it alone died of signal {-status}."
        if await self._rows.quarantine(job_id, generation, message):
            log.error("job_quarantined", job_id=job_id, signal=-status)
