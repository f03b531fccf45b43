"""Decides whether intake publishes an urgent job at once or leaves it to dispatch.

Published jobs run in order of arrival, so many of one tenant would delay others; dispatch is fair between tenants.
"""

import asyncio
from collections.abc import Awaitable, Callable

from schemas.ids import TenantId
from schemas.lanes import Lane

MOST_UNCLAIMED = 32
"""Published and unclaimed urgent jobs of a tenant per lane: a fraction of a second of work."""

RECOUNT_SECONDS = 0.1
"""How long an allowance stays used up, so that a flood costs at most ten counts a second."""

MOST_REMEMBERED = 10_000
"""Tenants and lanes remembered; beyond this, all are counted again."""

CountUnclaimed = Callable[[TenantId, Lane, int], Awaitable[int]]
_Flow = tuple[TenantId, Lane]


class Allowances:
    """Holds allowances by tenant and lane. `clock` gives seconds."""

    def __init__(self, count: CountUnclaimed, *, clock: Callable[[], float]) -> None:
        self._count = count
        self._clock = clock
        self._left: dict[_Flow, int] = {}
        self._count_again_at: dict[_Flow, float] = {}
        self._counting = asyncio.Lock()

    async def take(self, tenant_id: TenantId, lane: Lane) -> bool:
        """Take one job's allowance; False leaves it to dispatch. Raises PostgresUnavailable."""
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
