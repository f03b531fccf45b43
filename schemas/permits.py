"""Gives each tenant its own permits, so that no tenant delays another."""

from asyncio import Semaphore, get_running_loop
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from schemas.ids import TenantId


class TenantPermits:
    """The same number of permits for each tenant.

    A returned permit is blocked for `rest_seconds`, which limits its rate.
    """

    def __init__(self, of_a_tenant: int, *, rest_seconds: float = 0.0) -> None:
        self._of_a_tenant = of_a_tenant
        self._rest_seconds = rest_seconds
        self._by_tenant: WeakValueDictionary[TenantId, Semaphore] = WeakValueDictionary()
        """A semaphore lives while somebody holds a permit, waits for one or lets one rest."""

    @asynccontextmanager
    async def permit(self, tenant_id: TenantId) -> AsyncIterator[None]:
        """Wait for a permit and hold it."""
        semaphore = self._by_tenant.setdefault(tenant_id, Semaphore(self._of_a_tenant))
        await semaphore.acquire()
        try:
            yield
        finally:
            if self._rest_seconds > 0:
                get_running_loop().call_later(self._rest_seconds, semaphore.release)
            else:
                semaphore.release()
