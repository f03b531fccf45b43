"""Renews the leases of this process with one statement per heartbeat.

A lost lease cancels its job: further calls would be paid twice.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from schemas.errors import Unavailable
from schemas.ids import JobId
from schemas.job import Lease

log = structlog.get_logger()


@dataclass(slots=True)
class LeaseKeeper:
    """Renews all leases of one process. `renew` returns the jobs still leased."""

    renew: Callable[[Sequence[Lease]], Awaitable[Collection[JobId]]]
    every_seconds: float
    _working: dict[Lease, asyncio.Task[object]] = field(default_factory=dict)
    _doubted: set[Lease] = field(default_factory=set)
    _away: bool = False

    @asynccontextmanager
    async def renewing(self, lease: Lease) -> AsyncIterator[None]:
        """Renew the lease during the block; cancel the block when it is lost."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a lease is held by a task of the running loop")
        self._working[lease] = task
        try:
            yield
        finally:
            self.stop_renewing(lease)

    def stop_renewing(self, lease: Lease) -> None:
        """Stop renewing this lease without cancelling its block."""
        self._working.pop(lease, None)

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            await asyncio.sleep(self.every_seconds)
            await self.renew_all()

    async def renew_all(self) -> None:
        """Renew every lease once; while Postgres is unavailable, the next heartbeat tries again.

        A lease missing once may belong to an ending job; missing twice, it is lost.
        """
        leases = list(self._working)
        if not leases:
            return
        try:
            held = await self.renew(leases)
        except Unavailable as error:
            if not self._away:
                log.warning("heartbeat_missed", leases=len(leases), reason=error.message)
            self._away = True
            return
        self._away = False
        doubted = {lease for lease in leases if lease.job_id not in held and lease in self._working}
        for lease in doubted & self._doubted:
            log.warning("lease_lost", job_id=lease.job_id, fence=lease.fence)
            self._working[lease].cancel()
        self._doubted = doubted

    @property
    def leases(self) -> int:
        """Count leases held now."""
        return len(self._working)
