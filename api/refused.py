"""Slows a tenant whose requests are refused, so that their checks do not take the process from others.

A refused request has nothing to wait for, so its sender could repeat it without pause.
"""

import asyncio
import time

from starlette.requests import Request

from schemas.ids import TenantId
from schemas.permits import TenantPermits

REST_TIMES_CHECK = 9.0
"""A tenant's refused requests take a tenth of a process at most: each rests nine times as long as its check took."""

LEAST_CHECK_SECONDS = 0.0005
"""Refusals that cost less are answered at once."""

LONGEST_REST_SECONDS = 0.25


class RefusedRequests:
    """Delays the answers to refused requests, one after the other for each tenant."""

    def __init__(self) -> None:
        self._permits = TenantPermits(1)

    async def rest(self, tenant_id: TenantId, check_seconds: float) -> None:
        """Wait in proportion to the time that the check took."""
        if check_seconds < LEAST_CHECK_SECONDS:
            return
        async with self._permits.permit(tenant_id):
            await asyncio.sleep(min(check_seconds * REST_TIMES_CHECK, LONGEST_REST_SECONDS))


async def rest_after(request: Request) -> None:
    """Delay the answer to a tenant's request that was refused after its body was read. Operators are not delayed."""
    read_at: float | None = getattr(request.state, "body_read_at", None)
    tenant_id: TenantId | None = getattr(request.state, "tenant_id", None)
    if read_at is not None and tenant_id is not None:
        refused: RefusedRequests = request.app.state.refused_requests
        await refused.rest(tenant_id, time.perf_counter() - read_at)
