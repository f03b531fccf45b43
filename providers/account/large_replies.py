"""Limits how many large replies a process reads at once, to bound memory.

A slow client's reply keeps its permit.
"""

from asyncio import Semaphore
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

from providers.account.timeouts import Patience
from schemas.ids import TenantId
from schemas.permits import TenantPermits

LARGE_REPLIES_AT_ONCE = 4
"""Per process: about 130 MB with parsed values."""

LARGE_REPLIES_OF_A_TENANT = 2
"""Leaves permits to other tenants while a tenant's clients are slow."""


class LargeReplies:
    """The permits of a process."""

    def __init__(self) -> None:
        self._permits = Semaphore(LARGE_REPLIES_AT_ONCE)
        self._of_tenants = TenantPermits(LARGE_REPLIES_OF_A_TENANT)

    @asynccontextmanager
    async def permit(self, tenant_id: TenantId) -> AsyncIterator[None]:
        """Hold a permit of the tenant and one of the process."""
        async with self._of_tenants.permit(tenant_id), self._permits:
            yield


class LargeReplyPermit:
    """The permit of one reply, taken when it becomes large."""

    def __init__(self, large_replies: LargeReplies, tenant_id: TenantId, patience: Patience) -> None:
        self._large_replies = large_replies
        self._tenant_id = tenant_id
        self._patience = patience
        self._held: AsyncExitStack | None = None

    async def take(self) -> None:
        """Wait for the permit under the total time-out only; the provider is not silent."""
        if self._held is None:
            self._patience.for_listener()
            held = AsyncExitStack()
            await held.enter_async_context(self._large_replies.permit(self._tenant_id))
            self._held = held
            self._patience.for_next_chunk()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._held is not None:
            await self._held.aclose()
