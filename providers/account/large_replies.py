"""Limits how many large replies a process reads at once, to bound memory.

A slow client's reply keeps its permit.
"""

from asyncio import Semaphore
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

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


class LargeReplyPermit(AsyncExitStack):
    """The permit of one reply, taken when it becomes large."""

    def __init__(self, large_replies: LargeReplies, tenant_id: TenantId, patience: Patience) -> None:
        super().__init__()
        self._large_replies = large_replies
        self._tenant_id = tenant_id
        self._patience = patience
        self._is_held = False

    async def take(self) -> None:
        """Wait for the permit under the total time-out only; the provider is not silent."""
        if not self._is_held:
            self._patience.for_listener()
            await self.enter_async_context(self._large_replies.permit(self._tenant_id))
            self._is_held = True
            self._patience.for_next_chunk()
