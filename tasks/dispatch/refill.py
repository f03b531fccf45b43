"""Publishes queued jobs up to the prefetch window of each flow (lane and model).

The backlog stays in Postgres; a job is published when a worker will want it within seconds. So a million queued jobs
cost Redis nothing, a cancelled batch stops at once, and an exhausted model delays no other. The backlog picks which
jobs come next, the flow's window how many.
"""

from collections.abc import Sequence
from typing import Protocol

import structlog

from schemas.errors import RedisUnavailable
from schemas.ids import JobId
from schemas.job import Published
from schemas.lanes import PUBLISHED_BY_INTAKE, Flow, Lane
from tasks.maintenance.items import Isolation

log = structlog.get_logger()

REFILL_SHARE = 4
"""A flow is refilled when a quarter of its window is free, so that a long backlog is sent in full slices."""

FEWEST_MESSAGES = 8
"""Minimum messages per refill. Small refills go job by job, so that an idle system adds no wait and its workers share
the work; larger ones go in slices, which cost a worker less per job."""

MOST_URGENT_AHEAD = 128
"""Most published and unclaimed urgent jobs per flow: another tenant's next job waits behind at most these and intake's
own. Workers claim as many within one or two rounds of dispatch."""


class Backlog(Protocol):
    """The queued jobs in Postgres."""

    async def flows(self) -> Sequence[Flow]:
        """Flows with queued jobs that are not published."""

    async def take(self, lane: Lane, model: str, most: int) -> Sequence[Published]:
        """Mark up to `most` jobs of a flow as dispatched, fairly among tenants, and return them."""

    async def give_back(self, jobs: Sequence[JobId]) -> int:
        """Mark these as not published; return how many were."""


class Windows(Protocol):
    """Computes how many jobs of a flow to publish."""

    async def window(self, flow: Flow) -> int:
        """How many of its jobs may be published and not yet claimed. Raises RedisUnavailable."""


class Outlet(Protocol):
    """Sends messages to the lanes."""

    async def publish(self, lane: Lane, jobs: Sequence[Published], slice_size: int = 1) -> int:
        """Raises RedisUnavailable."""


async def dispatch(backlog: Backlog, outlet: Outlet, windows: Windows, *, slice_size: int, isolation: Isolation) -> int:
    """Refill every flow once; return the number of jobs published.

    Raises RedisUnavailable before a flow's jobs are taken. A flow that fails is recorded in `isolation` and delays no
    other. A job that was marked and not published is given back, here or later by upkeep.
    """

    async def refill(flow: Flow) -> int:
        window = await windows.window(flow)
        if flow.lane in PUBLISHED_BY_INTAKE:
            window = min(window, MOST_URGENT_AHEAD)
        room = window - flow.run_ahead
        jobs = await backlog.take(flow.lane, flow.model, room) if room > 0 and room * REFILL_SHARE >= window else ()
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
