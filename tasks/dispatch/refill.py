"""Publishes queued jobs up to the prefetch window of each flow (lane and model).

The backlog stays in Postgres, so a cancelled batch stops at once, and an exhausted model delays no other.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from schemas.errors import RedisUnavailable
from schemas.ids import JobId, TenantId
from schemas.job import Published
from schemas.lanes import PUBLISHED_BY_INTAKE, Flow, Lane
from schemas.tenants import ShareCapacity
from tasks.maintenance.items import Isolation

log = structlog.get_logger()

REFILL_SHARE = 4
"""Refills a flow when a quarter of its window is free, so that a long backlog is sent in full slices."""

FEWEST_MESSAGES = 8
"""Small refills go job by job, so that workers share them; larger ones go in slices, which cost less per job."""

MOST_URGENT_AHEAD = 128
"""Unclaimed urgent jobs per flow, behind which another tenant's next job waits. Workers claim as many within one or two
rounds of dispatch."""


class Backlog(Protocol):
    """Reads queued jobs."""

    async def flows(self) -> Sequence[Flow]:
        """List flows with unpublished jobs."""

    async def take(
        self, lane: Lane, model: str, most: int, *, capacities: Mapping[TenantId, ShareCapacity]
    ) -> Sequence[Published]:
        """Mark up to `most` jobs as dispatched, fairly among tenants, and of each no more than its capacity."""

    async def give_back(self, jobs: Sequence[JobId]) -> int:
        """Mark jobs as unpublished."""


class Windows(Protocol):
    """Computes prefetch windows."""

    async def window(self, flow: Flow) -> int:
        """Return the most published, unclaimed jobs. Raises RedisUnavailable."""


class Shares(Protocol):
    """Computes how much each tenant's share lets through."""

    async def capacities(self, flow: Flow) -> Mapping[TenantId, ShareCapacity]:
        """Return the capacities of tenants with limits. Raises RedisUnavailable."""


class Outlet(Protocol):
    """Sends messages."""

    async def publish(self, lane: Lane, jobs: Sequence[Published], slice_size: int = 1) -> int:
        """Raises RedisUnavailable."""


async def dispatch(
    backlog: Backlog, outlet: Outlet, windows: Windows, shares: Shares, *, slice_size: int, isolation: Isolation
) -> int:
    """Refill every flow once; returns the number of jobs published. Raises RedisUnavailable.

    `isolation` records a failing flow, which delays no other. Marked, unpublished jobs are given back.
    """

    async def refill(flow: Flow) -> int:
        window = await windows.window(flow)
        if flow.lane in PUBLISHED_BY_INTAKE:
            window = min(window, MOST_URGENT_AHEAD)
        free = window - flow.run_ahead
        if free <= 0 or free * REFILL_SHARE < window:
            return 0
        jobs = await backlog.take(flow.lane, flow.model, free, capacities=await shares.capacities(flow))
        return await _send(backlog, outlet, flow, jobs, slice_size) if jobs else 0

    return await isolation.each(await backlog.flows(), lambda flow: f"{flow.lane} {flow.model}", refill)


async def _send(backlog: Backlog, outlet: Outlet, flow: Flow, jobs: Sequence[Published], slice_size: int) -> int:
    size = min(slice_size, max(1, len(jobs) // FEWEST_MESSAGES)) if flow.lane in {Lane.NORMAL, Lane.LOW} else 1
    try:
        await outlet.publish(flow.lane, jobs, size)
    except RedisUnavailable:
        log.warning("publish_failed", lane=flow.lane, jobs=len(jobs))
        await backlog.give_back([job.job_id for job in jobs])
        return 0
    return len(jobs)
