"""Runs each suspect job in its own process, so that a death makes only that job poison.

Only death by a signal counts.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog

from schemas.errors import Unavailable
from schemas.ids import JobId, TenantId

log = structlog.get_logger()

MOST_ALONE = 6
"""Each process takes a second to start and the memory of a worker."""

MOST_ALONE_OF_TENANT = 2
"""A suspect may hang for as long as its longest call, and others need slots meanwhile."""


class Suspected(Protocol):
    """Stores suspect jobs."""

    async def next_alone(
        self, most: int, most_of_tenant: int, under_way: Mapping[JobId, TenantId]
    ) -> list[tuple[JobId, int, TenantId]]:
        """Take up to `most` suspects, each under a new generation."""

    async def quarantine(self, job_id: JobId, generation: int, message: str) -> bool:
        """End a job as poison; False where it had moved on."""


class Suspects:
    """Runs suspects. `run` returns a process's status; negative is a signal."""

    def __init__(self, rows: Suspected, run: Callable[[JobId, int], Awaitable[int]]) -> None:
        self._rows, self._run = rows, run
        self._under_way: dict[asyncio.Task[None], tuple[JobId, TenantId]] = {}

    async def try_alone(self) -> int:
        """Start a suspect in each free slot; returns how many."""
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
        """Wait for suspects under way; `run` must end their processes when this one stops."""
        if self._under_way:
            await asyncio.wait(list(self._under_way))

    async def _try(self, job_id: JobId, generation: int) -> None:
        try:
            await self._attempt_result(job_id, generation)
        except Unavailable as error:
            log.warning("suspect_left_to_its_lease", job_id=job_id, reason=error.message)
        except Exception:  # the bug affects one suspect, which is taken again after its lease
            log.exception("suspect_failed", job_id=job_id)

    async def _attempt_result(self, job_id: JobId, generation: int) -> None:
        status = await self._run(job_id, generation)
        if status >= 0:
            log.info("suspect_ran_alone", job_id=job_id, status=status)
            return
        message = f"The process that ran it alone died of signal {-status}."
        if await self._rows.quarantine(job_id, generation, message):
            log.error("job_quarantined", job_id=job_id, signal=-status)
