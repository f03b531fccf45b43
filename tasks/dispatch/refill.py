"""Dispatch: keep each flow's run-ahead full and no fuller. A flow is a lane and a model.

The backlog stays in Postgres; a message is published only when a worker will want it within seconds. So a million
queued jobs cost Redis nothing, a cancelled batch stops at once, and an exhausted model does not hold up another one.
Whose jobs come next is decided by the backlog, how many by the flow's window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from schemas.errors import RedisUnavailable
from schemas.lanes import PUBLISHED_BY_INTAKE, Lane
from tasks.dispatch.publisher import Published
from tasks.maintenance.items import Isolation

log = structlog.get_logger()

REFILL_SHARE = 4
"""A flow is refilled when a quarter of its window is free, so that a deep one travels in full slices."""

FEWEST_MESSAGES = 8
"""A refill travels in at least so many messages: a small one job by job, so that an idle system adds no wait and its
workers share the work; a larger one in slices, which cost a worker less each."""

MOST_URGENT_AHEAD = 128
"""Urgent jobs of a flow that are published and not held: what another tenant's next job stands behind at most, beside
what intake publishes itself. Workers take so many within a round of dispatch or two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """Jobs of one lane for one model: how many are published and not yet held."""

    lane: Lane
    model: str
    run_ahead: int


class Backlog(Protocol):
    """The queued rows, as dispatch sees them."""

    async def flows(self) -> Sequence[Flow]:
        """Flows that have queued jobs which are not published."""

    async def take(self, flow: Flow, most: int) -> Sequence[Published]:
        """Mark up to `most` jobs of a flow as dispatched, fairly among tenants, and return them."""

    async def give_back(self, jobs: Sequence[Published]) -> None:
        """Count these as not published."""


class Windows(Protocol):
    """How much of a flow is worth publishing."""

    async def window(self, flow: Flow) -> int:
        """How many of its jobs may be published and not yet held. Raises RedisUnavailable."""


class Outlet(Protocol):
    """Where messages go."""

    async def publish(self, lane: Lane, jobs: Sequence[Published], slice_size: int = 1) -> int:
        """Raises RedisUnavailable."""


async def dispatch(backlog: Backlog, outlet: Outlet, windows: Windows, *, slice_size: int, isolation: Isolation) -> int:
    """Refill every flow once; returns the number of jobs published. Raises RedisUnavailable before anything is taken.

    A flow that fails is remembered in `isolation` and holds up no other.

    A job that was marked and then not published is given back, or forgotten by upkeep: nothing is lost.
    """

    async def refill(flow: Flow) -> int:
        window = await windows.window(flow)
        if flow.lane in PUBLISHED_BY_INTAKE:
            window = min(window, MOST_URGENT_AHEAD)
        room = window - flow.run_ahead
        jobs = await backlog.take(flow, room) if room > 0 and room * REFILL_SHARE >= window else ()
        return await _send(backlog, outlet, flow, jobs, slice_size) if jobs else 0

    return await isolation.each(await backlog.flows(), lambda flow: f"{flow.lane} {flow.model}", refill)


async def _send(backlog: Backlog, outlet: Outlet, flow: Flow, jobs: Sequence[Published], slice_size: int) -> int:
    size = min(slice_size, max(1, len(jobs) // FEWEST_MESSAGES)) if flow.lane in {Lane.NORMAL, Lane.LOW} else 1
    try:
        await outlet.publish(flow.lane, jobs, size)
    except RedisUnavailable:
        log.warning("publish_failed", lane=flow.lane, jobs=len(jobs))
        await backlog.give_back(jobs)
        return 0
    return len(jobs)
