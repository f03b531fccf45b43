"""Refuses jobs, batches and files beyond the quotas of their tenant. What has no quota is never counted.

A count is believed for a second, and what this process takes in meanwhile is added to it; so each further process may
take in as much as one second brings it beyond the quota.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
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
"""Counts by quota and tenant; beyond, all are forgotten and counted again."""


class Usage(Protocol):
    """What tenants use now. All raise PostgresUnavailable."""

    async def open_jobs(self, tenant_id: TenantId, most: int) -> int:
        """Jobs that are not at rest, counted up to `most`."""

    async def waiting_batches(self, tenant_id: TenantId) -> int:
        """Batches whose files have not been read yet."""

    async def bytes_stored(self, tenant_id: TenantId) -> int:
        """Bytes of files and jobs."""


@dataclass(slots=True)
class _Count:
    used: int
    until: float


class Quotas:
    """Lets in what fits into the quotas of its tenant. `clock` gives seconds."""

    def __init__(
        self, usage: Usage, share_of: Callable[[TenantId], TenantShare], *, clock: Callable[[], float]
    ) -> None:
        self._usage = usage
        self._share_of = share_of
        self._clock = clock
        self._counts: dict[tuple[str, TenantId], _Count] = {}

    async def take_job(self, job: NewJob) -> None:
        """Count one more open job and its body. Raises QuotaReached and StorageFull."""
        share = self._share_of(job.tenant_id)
        if share.open_jobs is not None:
            await self._take_open_job(job.tenant_id, share.open_jobs)
        if share.bytes_stored is not None:
            await self._take_bytes(job.tenant_id, share.bytes_stored, len(dumps(job.body)))

    async def take_batch(self, tenant_id: TenantId) -> None:
        """Count one more batch that waits; its jobs count when they are stored. Raises QuotaReached."""
        share = self._share_of(tenant_id)
        if share.waiting_batches is not None:
            most = share.waiting_batches
            await self._take("waiting_batches", tenant_id, most, 1, lambda: self._usage.waiting_batches(tenant_id))
        await self.room_for_jobs(tenant_id)

    async def room_for_jobs(self, tenant_id: TenantId) -> None:
        """Raises QuotaReached where the tenant may have no more open jobs; for jobs whose number nobody knows yet."""
        most = self._share_of(tenant_id).open_jobs
        if most is not None:
            await self._take_open_job(tenant_id, most, adds=0)

    async def counted(self, tenant_id: TenantId, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same bytes, counted as they pass. Raises StorageFull at the one that is too many."""
        async for part in parts:
            most = self._share_of(tenant_id).bytes_stored
            if most is not None:
                await self._take_bytes(tenant_id, most, len(part))
            yield part

    async def _take_open_job(self, tenant_id: TenantId, most: int, adds: int = 1) -> None:
        await self._take("open_jobs", tenant_id, most, adds, lambda: self._usage.open_jobs(tenant_id, most))

    async def _take_bytes(self, tenant_id: TenantId, most: int, adds: int) -> None:
        try:
            await self._take("bytes_stored", tenant_id, most, adds, lambda: self._usage.bytes_stored(tenant_id))
        except QuotaReached as error:
            raise StorageFull(error.message, param=error.param) from None

    async def _take(
        self, quota: str, tenant_id: TenantId, most: int, adds: int, count: Callable[[], Awaitable[int]]
    ) -> None:
        current = self._counts.get((quota, tenant_id))
        if current is None or current.until <= self._clock():
            current = self._kept((quota, tenant_id), await count())
        if current.used + max(adds, 1) > most:
            raise QuotaReached(
                f"The quota {quota} of this tenant is {most}, and {current.used} are in use.", param=quota
            )
        current.used += adds

    def _kept(self, of: tuple[str, TenantId], used: int) -> _Count:
        """The count, or the one that somebody else has brought meanwhile: it knows what was taken in since."""
        kept = self._counts.get(of)
        if kept is None or kept.until <= self._clock():
            if len(self._counts) >= MOST_REMEMBERED:
                self._counts.clear()
            kept = self._counts[of] = _Count(used, self._clock() + BELIEVED_SECONDS)
        return kept


class ByteCounts(Protocol):
    """Where the bytes of jobs are added up."""

    async def count_slice(self, tenant_id: TenantId) -> int:
        """Add up the next jobs of a tenant; returns how many. After `SLICE_JOBS` or more, others may be left."""


async def add_up_bytes(
    counts: ByteCounts,
    tenants: Sequence[TenantId],
    share_of: Callable[[TenantId], TenantShare],
    isolation: Isolation,
) -> int:
    """One slice for each tenant whose bytes are limited; returns how many jobs full slices had: then more may wait."""
    limited = [tenant_id for tenant_id in tenants if share_of(tenant_id).bytes_stored is not None]

    async def add_up(tenant_id: TenantId) -> int:
        added = await counts.count_slice(tenant_id)
        return added if added >= SLICE_JOBS else 0

    return await isolation.each(limited, str, add_up)
