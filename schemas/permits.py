"""Gives each tenant its own permits, so that no tenant delays another."""

from asyncio import Semaphore, get_running_loop
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from schemas.ids import TenantId


@dataclass(eq=False, kw_only=True, slots=True)
class _Permits:
    """`users` hold a permit or wait for one."""

    semaphore: Semaphore
    users: int = 0


class TenantPermits:
    """The same number of permits for each tenant.

    A returned permit is blocked for `rest_seconds`, which limits its rate.
    """

    def __init__(self, of_a_tenant: int, *, rest_seconds: float = 0.0) -> None:
        self._of_a_tenant = of_a_tenant
        self._rest_seconds = rest_seconds
        self._by_tenant: dict[TenantId, _Permits] = {}

    @asynccontextmanager
    async def permit(self, tenant_id: TenantId) -> AsyncIterator[None]:
        """Wait for a permit and hold it."""
        permits = self._by_tenant.setdefault(tenant_id, _Permits(semaphore=Semaphore(self._of_a_tenant)))
        permits.users += 1
        try:
            await permits.semaphore.acquire()
        except BaseException:
            self._leave(tenant_id, permits)
            raise
        try:
            yield
        finally:
            if self._rest_seconds > 0:
                get_running_loop().call_later(self._rest_seconds, self._give_back, tenant_id, permits)
            else:
                self._give_back(tenant_id, permits)

    def _give_back(self, tenant_id: TenantId, permits: _Permits) -> None:
        permits.semaphore.release()
        self._leave(tenant_id, permits)

    def _leave(self, tenant_id: TenantId, permits: _Permits) -> None:
        permits.users -= 1
        if not permits.users:
            del self._by_tenant[tenant_id]
