"""Decides whether intake publishes an urgent job at once or leaves it to dispatch.

Intake publishes while few of the tenant's published jobs in that lane wait for a worker. They are served in order of
arrival, so many of one tenant would delay others; dispatch is fair between tenants.

A process counts the waiting jobs, publishes up to the limit, and counts again. Several processes may each publish that
many.
"""

import asyncio
from collections.abc import Awaitable, Callable

from schemas.ids import TenantId
from schemas.lanes import Lane

MOST_UNCLAIMED = 32
"""Limit of a tenant's published and unclaimed urgent jobs per lane: a fraction of a second of work."""

RECOUNT_SECONDS = 0.1
"""How long a process assumes that a tenant has no allowance left, so that a flood costs at most ten counts a second."""

MOST_REMEMBERED = 10_000
"""Tenants and lanes remembered; beyond this, all are dropped and counted again."""

CountUnclaimed = Callable[[TenantId, Lane, int], Awaitable[int]]
_Flow = tuple[TenantId, Lane]


class Allowances:
    """Remaining room by tenant and lane, as this process last counted it. `clock` gives seconds."""

    def __init__(self, count: CountUnclaimed, *, clock: Callable[[], float]) -> None:
        self._count = count
        self._clock = clock
        self._left: dict[_Flow, int] = {}
        self._count_again_at: dict[_Flow, float] = {}
        self._counting = asyncio.Lock()

    async def take(self, tenant_id: TenantId, lane: Lane) -> bool:
        """Take room for one job; False when dispatch should publish it. Raises PostgresUnavailable."""
        flow = (tenant_id, lane)
        if self._left.get(flow, 0) <= 0:
            async with self._counting:
                if self._left.get(flow, 0) <= 0:
                    await self._recount(flow)
        left = self._left.get(flow, 0)
        self._left[flow] = max(0, left - 1)
        return left > 0

    async def _recount(self, flow: _Flow) -> None:
        if self._clock() < self._count_again_at.get(flow, float("-inf")):
            return
        if len(self._left) >= MOST_REMEMBERED:
            self._left.clear()
            self._count_again_at.clear()
        left = self._left[flow] = MOST_UNCLAIMED - await self._count(*flow, MOST_UNCLAIMED)
        if left <= 0:
            self._count_again_at[flow] = self._clock() + RECOUNT_SECONDS
