"""Gives each tenant the same number of permits, so that what one tenant holds keeps no other waiting."""

from asyncio import Semaphore
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from schemas.ids import TenantId


@dataclass(eq=False, kw_only=True, slots=True)
class _Permits:
    """The permits of one tenant. `users` hold one or wait for one."""

    semaphore: Semaphore
    users: int = 0


class TenantPermits:
    """As many permits for each tenant; a tenant that holds none and waits for none takes no memory."""

    def __init__(self, of_a_tenant: int) -> None:
        self._of_a_tenant = of_a_tenant
        self._by_tenant: dict[TenantId, _Permits] = {}

    @asynccontextmanager
    async def permit(self, tenant_id: TenantId) -> AsyncIterator[None]:
        """Wait for a permit and hold it."""
        permits = self._by_tenant.setdefault(tenant_id, _Permits(semaphore=Semaphore(self._of_a_tenant)))
        permits.users += 1
        try:
            async with permits.semaphore:
                yield
        finally:
            permits.users -= 1
            if not permits.users:
                del self._by_tenant[tenant_id]
