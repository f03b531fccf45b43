"""How many large replies a process reads at once, and how many of them are of one tenant."""

import asyncio
from contextlib import AsyncExitStack

from providers.account.large_replies import LARGE_REPLIES_AT_ONCE, LARGE_REPLIES_OF_A_TENANT, LargeReplies
from schemas.ids import TenantId

GREEDY, MODEST = TenantId("greedy"), TenantId("modest")


async def is_free(large_replies: LargeReplies, tenant_id: TenantId) -> bool:
    """Whether a permit is there without waiting. One that is not is waited for, and that wait is given up."""
    async with AsyncExitStack() as stack:
        waiting = asyncio.create_task(stack.enter_async_context(large_replies.permit(tenant_id)))
        await asyncio.wait([waiting], timeout=0.01)
        if waiting.done():
            return True
        waiting.cancel()
        await asyncio.wait([waiting])
        return False


async def test_a_tenant_that_holds_its_permits_leaves_those_of_others() -> None:
    large_replies = LargeReplies()
    async with AsyncExitStack() as stack:
        for _ in range(LARGE_REPLIES_OF_A_TENANT):
            await stack.enter_async_context(large_replies.permit(GREEDY))

        assert not await is_free(large_replies, GREEDY)
        assert await is_free(large_replies, MODEST)
    assert await is_free(large_replies, GREEDY)


async def test_all_tenants_together_have_the_permits_of_the_process() -> None:
    large_replies = LargeReplies()
    async with AsyncExitStack() as stack:
        for number in range(LARGE_REPLIES_AT_ONCE):
            await stack.enter_async_context(large_replies.permit(TenantId(f"t{number}")))

        assert not await is_free(large_replies, MODEST)
    assert await is_free(large_replies, MODEST)
