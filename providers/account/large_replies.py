"""Lets a few large replies of a process be read at once, so that they take bounded memory together.

A reply that waits for a slow client keeps its permit, so a tenant may hold a part of the permits only.
"""

from asyncio import Semaphore
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

from providers.account.timeouts import Patience
from schemas.ids import TenantId
from schemas.permits import TenantPermits

LARGE_REPLIES_AT_ONCE = 4
"""Of a process, over all accounts: with their parsed values some 130 MB."""

LARGE_REPLIES_OF_A_TENANT = 2
"""Of those, what one tenant may read at once: its slow clients leave the others to other tenants."""


class LargeReplies:
    """The permits of a process."""

    def __init__(self) -> None:
        self._permits = Semaphore(LARGE_REPLIES_AT_ONCE)
        self._of_tenants = TenantPermits(LARGE_REPLIES_OF_A_TENANT)

    @asynccontextmanager
    async def permit(self, tenant_id: TenantId) -> AsyncIterator[None]:
        """Wait for a permit of the tenant, then for one of the process, and hold both."""
        async with self._of_tenants.permit(tenant_id), self._permits:
            yield


class LargeReplyPermit:
    """The permit of one reply, taken when the reply turns out to be large, and held until it has been read."""

    def __init__(self, large_replies: LargeReplies, tenant_id: TenantId, patience: Patience) -> None:
        self._large_replies = large_replies
        self._tenant_id = tenant_id
        self._patience = patience
        self._held: AsyncExitStack | None = None

    async def take(self) -> None:
        """Wait for it, as for a listener: this is not the provider's silence."""
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
