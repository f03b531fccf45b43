"""Limits synchronous calls in one process and shares the places between tenants.

A reserve serves tenants with few calls. Waiting calls are served by tenant, fewest calls first, then in order of
arrival.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from schemas.errors import ShareUsedUp
from schemas.ids import TenantId

RESERVED_SHARE = 0.1
"""Share of places only for tenants with few calls under way."""

FEW_CALLS = 4
"""Tenants below this number have few calls."""


class CallPlaces:
    """Counts calls under way by tenant, within one event loop."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._reserved = round(total * RESERVED_SHARE)
        self._held: Counter[TenantId] = Counter()
        self._in_use = 0
        self._waiting: dict[TenantId, deque[asyncio.Future[None]]] = {}

    @property
    def in_use(self) -> int:
        """Count calls under way."""
        return self._in_use

    def has_place(self, tenant_id: TenantId) -> bool:
        """Tell whether a call would get a place at once."""
        return tenant_id not in self._waiting and self._has_capacity(tenant_id)

    @asynccontextmanager
    async def held(self, tenant_id: TenantId, patience_seconds: float) -> AsyncIterator[None]:
        """Hold a place for the block. Raises ShareUsedUp after `patience_seconds`."""
        await self._take(tenant_id, patience_seconds)
        try:
            yield
        finally:
            self._give_back(tenant_id)

    def _has_capacity(self, tenant_id: TenantId) -> bool:
        free = self._total - self._in_use
        return free > self._reserved or (free > 0 and self._held[tenant_id] < FEW_CALLS)

    async def _take(self, tenant_id: TenantId, patience_seconds: float) -> None:
        if self.has_place(tenant_id):
            self._count(tenant_id, 1)
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant_id, deque()).append(place)
        try:
            async with asyncio.timeout(patience_seconds):
                await place
        except (TimeoutError, asyncio.CancelledError) as error:
            self._stop_waiting(tenant_id, place)
            if isinstance(error, TimeoutError):
                under_way = self._held[tenant_id]
                raise ShareUsedUp(
                    f"{under_way} synchronous calls of this tenant are under way here, and no place became free for "
                    f"another within {patience_seconds:g} seconds."
                ) from None
            raise

    def _stop_waiting(self, tenant_id: TenantId, place: asyncio.Future[None]) -> None:
        if place.done() and not place.cancelled():
            self._give_back(tenant_id)
            return
        queue = self._waiting.get(tenant_id)
        if queue is not None and place in queue:
            queue.remove(place)
            if not queue:
                del self._waiting[tenant_id]

    def _give_back(self, tenant_id: TenantId) -> None:
        self._count(tenant_id, -1)
        while self._waiting:
            following = min(self._waiting, key=self._held.__getitem__)
            if not self._has_capacity(following):
                return
            self._serve(following)

    def _serve(self, tenant_id: TenantId) -> None:
        """Serve the tenant's oldest call, and move the tenant behind its equals."""
        queue = self._waiting.pop(tenant_id)
        place = queue.popleft()
        if queue:
            self._waiting[tenant_id] = queue
        if not place.done():
            self._count(tenant_id, 1)
            place.set_result(None)

    def _count(self, tenant_id: TenantId, change: int) -> None:
        self._in_use += change
        self._held[tenant_id] += change
        if not self._held[tenant_id]:
            del self._held[tenant_id]
