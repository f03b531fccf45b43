"""Refuses jobs, batches and files beyond the quotas of their tenant.

A count is kept for a second, so each further process may exceed the quota by a second's intake.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from schemas.errors import QuotaReached, StorageFull
from schemas.ids import TenantId
from schemas.job import NewJob
from schemas.jsons import dumps
from schemas.tenants import TenantShare
from storage.tenancy.usage import SLICE_JOBS
from tasks.maintenance.items import Isolation

BELIEVED_SECONDS = 1.0
MOST_REMEMBERED = 10_000
"""Counts by quota and tenant; beyond this, all are counted again."""


class Usage(Protocol):
    """Counts what tenants use. Raises PostgresUnavailable."""

    async def open_jobs(self, tenant_id: TenantId, most: int) -> int:
        """Count non-terminal jobs, up to `most`."""

    async def waiting_batches(self, tenant_id: TenantId) -> int:
        """Count batches with unread files."""

    async def bytes_stored(self, tenant_id: TenantId) -> int:
        """Sum bytes of files and jobs."""


@dataclass(slots=True)
class _Count:
    used: int
    until: float


@dataclass(slots=True)
class Quotas:
    """Enforces quotas. `clock` gives seconds."""

    usage: Usage
    share_of: Callable[[TenantId], TenantShare]
    clock: Callable[[], float]
    _counts: dict[tuple[str, TenantId], _Count] = field(default_factory=dict)

    async def take_job(self, job: NewJob) -> None:
        """Count one more open job and its body. Raises QuotaReached and StorageFull."""
        await self._take_open_jobs(job.tenant_id, adds=1)
        if self.share_of(job.tenant_id).bytes_stored is not None:
            await self._take_bytes(job.tenant_id, len(dumps(job.body)))

    async def take_batch(self, tenant_id: TenantId) -> None:
        """Count one more waiting batch. Raises QuotaReached."""
        await self._take("waiting_batches", tenant_id, 1, lambda _: self.usage.waiting_batches(tenant_id))
        await self.room_for_jobs(tenant_id)

    async def room_for_jobs(self, tenant_id: TenantId) -> None:
        """Raises QuotaReached without room for jobs of unknown number."""
        await self._take_open_jobs(tenant_id, adds=0)

    async def counted(self, tenant_id: TenantId, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass bytes on and count them. Raises StorageFull beyond the quota."""
        async for part in parts:
            await self._take_bytes(tenant_id, len(part))
            yield part

    async def _take_open_jobs(self, tenant_id: TenantId, adds: int) -> None:
        await self._take("open_jobs", tenant_id, adds, lambda most: self.usage.open_jobs(tenant_id, most))

    async def _take_bytes(self, tenant_id: TenantId, adds: int) -> None:
        try:
            await self._take("bytes_stored", tenant_id, adds, lambda _: self.usage.bytes_stored(tenant_id))
        except QuotaReached as error:
            raise StorageFull(error.message, param=error.param) from None

    async def _take(self, quota: str, tenant_id: TenantId, adds: int, count: Callable[[int], Awaitable[int]]) -> None:
        """`quota` is the name of the limit in the tenant's share."""
        most: int | None = getattr(self.share_of(tenant_id), quota)
        if most is None:
            return
        current = self._counts.get((quota, tenant_id))
        if current is None or current.until <= self.clock():
            current = self._remembered((quota, tenant_id), await count(most))
        if current.used + max(adds, 1) > most:
            raise QuotaReached(
                f"The quota {quota} of this tenant is {most}, and {current.used} are in use.", param=quota
            )
        current.used += adds

    def _remembered(self, of: tuple[str, TenantId], used: int) -> _Count:
        """Keep the count, or return a concurrent caller's."""
        count = self._counts.get(of)
        if count is None or count.until <= self.clock():
            if len(self._counts) >= MOST_REMEMBERED:
                self._counts.clear()
            count = self._counts[of] = _Count(used, self.clock() + BELIEVED_SECONDS)
        return count


async def add_up_bytes(
    count_slice: Callable[[TenantId], Awaitable[int]],
    tenants: Sequence[TenantId],
    share_of: Callable[[TenantId], TenantShare],
    isolation: Isolation,
) -> int:
    """Add up one slice per tenant with a byte quota; returns the jobs of full slices, behind which others may be."""
    limited = [tenant_id for tenant_id in tenants if share_of(tenant_id).bytes_stored is not None]

    async def add_up(tenant_id: TenantId) -> int:
        added = await count_slice(tenant_id)
        return added if added >= SLICE_JOBS else 0

    return await isolation.each(limited, str, add_up)
