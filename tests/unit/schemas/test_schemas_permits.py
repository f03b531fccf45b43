"""Permits of tenants: as many for each, and rested."""

import asyncio

from schemas.ids import TenantId
from schemas.permits import TenantPermits
from tests.support.virtual_time import in_virtual_time

REST_SECONDS = 0.5
GREEDY, OTHER = TenantId("greedy"), TenantId("other")


async def taken_at(permits: TenantPermits, tenant_id: TenantId) -> float:
    async with permits.permit(tenant_id):
        return asyncio.get_running_loop().time()


def test_a_permit_rests_before_it_is_given_again() -> None:
    permits = TenantPermits(1, rest_seconds=REST_SECONDS)

    async def three() -> list[float]:
        began = asyncio.get_running_loop().time()
        return [await taken_at(permits, tenant_id) - began for tenant_id in (GREEDY, GREEDY, OTHER)]

    assert [round(seconds, 3) for seconds in in_virtual_time(three())] == [0.0, REST_SECONDS, REST_SECONDS]


def test_whoever_gives_up_waiting_leaves_nothing_behind() -> None:
    permits = TenantPermits(1)

    async def given_up() -> float:
        async with permits.permit(GREEDY):
            waiting = asyncio.create_task(taken_at(permits, GREEDY))
            await asyncio.sleep(0.1)
            waiting.cancel()
            await asyncio.wait([waiting])
        return await taken_at(permits, GREEDY)

    assert in_virtual_time(given_up()) >= 0
